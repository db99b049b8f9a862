//! Valid YAML that is not supported in a config file, with a message for each kind.

/// Each of these puts a value at a place other than where it is written, or gives it another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnsupportedYaml {
    Anchor,
    Alias,
    MergeKey,
    Tag,
    ComplexKey,
    SecondDocument,
}

impl UnsupportedYaml {
    /// `quoted` is the unsupported text, if it may be shown.
    pub(super) fn message(self, quoted: Option<String>) -> String {
        let quoted = quoted.map(|quoted| format!(" {quoted}")).unwrap_or_default();
        match self {
            Self::Anchor => {
                format!("the anchor{quoted} is not supported: write the value out, or quote it if it begins with `&`")
            }
            Self::Alias => {
                format!("the alias{quoted} is not supported: write the value out, or quote it if it begins with `*`")
            }
            Self::MergeKey => "merge keys are not supported: write the keys out".to_owned(),
            Self::Tag => {
                format!("the tag{quoted} is not supported: remove it, or quote the value if it begins with `!`")
            }
            Self::ComplexKey => "a key must be plain or quoted text".to_owned(),
            Self::SecondDocument => "a second document begins here: a config file holds one".to_owned(),
        }
    }
}
