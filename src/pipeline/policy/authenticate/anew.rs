//! Authentication without a cache, for commands that judge a token.

use http::HeaderMap;

use super::{AuthenticateError, presented, unknown_static, verify};
use crate::clock::UnixTime;
use crate::oauth::observer::Unobserved;
use crate::pipeline::policy::static_callers::{PresentedStatic, check_static};
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::verify::{Expectations, Verified};

/// [`authenticate`](super::authenticate) without a cache: the result for the first request with this token.
pub(crate) async fn authenticate_anew(
    snapshot: &Snapshot,
    expected: Expectations<'_>,
    headers: &HeaderMap,
    now: UnixTime,
) -> Result<Verified, AuthenticateError> {
    let presented = presented(snapshot, headers, now)?;
    match PresentedStatic::of(snapshot.trust.static_tokens(), presented.token, presented.field) {
        PresentedStatic::Token(_, token) => {
            let verified = Verified::of_static(token);
            check_static(&verified, presented.field, expected, now).map_err(|check| verified.refused(check))?;
            Ok(verified)
        }
        PresentedStatic::Unknown if !snapshot.trust.asks_about_others(presented.field, expected) => {
            Err(unknown_static(Ok(())))
        }
        PresentedStatic::Unknown | PresentedStatic::Other => {
            verify(snapshot, (presented, None), expected, now, &mut Unobserved).await
        }
    }
}
