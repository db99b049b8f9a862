//! The macro that mirrors a map of the file by a struct.

/// Generates a struct that mirrors a map of the file, with its `Decode`, `MapField` and `Mirrored`. A field is one of
/// - `key: Required<T>`: required;
/// - `key: At<T> = default`: optional, with this default;
/// - `key: Option<At<T>>`, `Option<Required<T>>`, `Vec<At<T>>`, `Named<T>`: optional;
/// - `key: M`, where `M` is a mirrored map: if it is absent, as if it were present and empty.
macro_rules! mirror {
    ($(#[$meta:meta])* struct $name:ident {
        $($(#[doc = $doc:literal])* $key:ident: $type:ty $(= $default:expr)?,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub(crate) struct $name {
            $($(#[doc = $doc])* pub(crate) $key: $type,)*
        }

        impl $name {
            fn from_entries(
                entries: &$crate::config::reader::Entries<'_, '_>,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Self {
                Self { $($key: $crate::config::decode::mirror!(@field entries, reader, $key $(, $default)?),)* }
            }
        }

        impl $crate::config::decode::Mirrored for $name {
            const KEYS: &'static [&'static str] = &[$($crate::config::decode::key_name(stringify!($key))),*];

            fn is_secret(key: &str) -> bool {
                match key {
                    $(key if key == $crate::config::decode::key_name(stringify!($key)) => {
                        $crate::config::decode::mirror!(@is_secret $type $(, $default)?)
                    })*
                    _ => false,
                }
            }
        }

        impl $crate::config::decode::Decode for $name {
            const IS_SECRET: bool = <Self as $crate::config::decode::MapField>::IS_SECRET;

            fn form() -> $crate::config::form::ValueForm {
                <Self as $crate::config::decode::MapField>::form()
            }

            fn decode(
                node: &$crate::config::source::At<$crate::config::tree::YamlNode<'_>>,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Result<Self, $crate::config::diagnostics::Reported> {
                Ok(<Self as $crate::config::decode::MapField>::given(node, reader))
            }
        }

        impl $crate::config::decode::MapField for $name {
            const IS_SECRET: bool =
                false $(|| $crate::config::decode::mirror!(@is_secret $type $(, $default)?))*;
            const IS_REQUIRED: bool =
                false $(|| $crate::config::decode::mirror!(@is_required $type $(, $default)?))*;

            fn form() -> $crate::config::form::ValueForm {
                $crate::config::form::ValueForm::map(vec![$($crate::config::form::KeyForm {
                    name: $crate::config::decode::key_name(stringify!($key)),
                    comment: concat!($($doc),*),
                    is_required: $crate::config::decode::mirror!(@is_required $type $(, $default)?),
                    form: $crate::config::decode::mirror!(@form $type $(, $default)?),
                }),*])
            }

            fn given(
                node: &$crate::config::source::At<$crate::config::tree::YamlNode<'_>>,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Self {
                let entries = reader.entries(node, <Self as $crate::config::decode::Mirrored>::KEYS);
                Self::from_entries(&entries, reader)
            }

            fn absent(
                _: &'static str,
                missing: $crate::config::reader::MissingKey,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Self {
                Self::from_entries(&$crate::config::reader::Entries::none(missing), reader)
            }
        }
    };
    (@field $entries:ident, $reader:ident, $key:ident) => {
        $entries.field($crate::config::decode::key_name(stringify!($key)), $reader)
    };
    (@field $entries:ident, $reader:ident, $key:ident, $default:expr) => {
        $entries.or($crate::config::decode::key_name(stringify!($key)), $reader, $default)
    };
    (@is_secret $type:ty) => {
        <$type as $crate::config::decode::MapField>::IS_SECRET
    };
    (@is_secret $type:ty, $default:expr) => {
        <$type as $crate::config::decode::Decode>::IS_SECRET
    };
    (@is_required $type:ty) => {
        <$type as $crate::config::decode::MapField>::IS_REQUIRED
    };
    (@is_required $type:ty, $default:expr) => {
        false
    };
    (@form $type:ty) => {
        <$type as $crate::config::decode::MapField>::form()
    };
    (@form $type:ty, $default:expr) => {
        <$type as $crate::config::decode::Decode>::form()
    };
}
pub(in crate::config) use mirror;
