//! The claim of a request to come from a client, and the reasons to refuse it.

use std::net::IpAddr;

use super::federation::index::NoSingleClient;
use crate::jose::token::TokenFault;
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::error::TokenErrorCode;
use crate::oauth::identity::Identity;
use crate::trust::failed_check::{FailedCheck, TokenError};

/// The client that a request names, and what the configuration keeps of it to check the request's credentials with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'c, Kept> {
    pub(crate) id: &'c str,
    pub(crate) standing: Standing,
    pub(crate) kept: Kept,
    pub(crate) from: IpAddr,
}

impl<'c, Kept> Claim<'c, Kept> {
    /// The same claim with another part of the credentials.
    pub(crate) fn with<Part>(self, kept: Part) -> Claim<'c, Part> {
        let Self { id, standing, from, .. } = self;
        Claim { id, standing, kept, from }
    }
}

/// The effect of credentials that are right. The work is the same in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    /// The client may not call from this address. A match is reported for the audit log and counts as a failure.
    Elsewhere,
    /// The client is unknown: nothing matches.
    Unknown,
}

/// The reason for which a client is not authenticated. The texts are fixed and contain nothing of the request.
#[derive(Debug)]
pub(crate) enum ClientFault {
    /// More than one method, or contradictory ids.
    InvalidRequest(&'static str),
    NoCredentials {
        client: Option<String>,
        /// The certificate that is missing, where the client has no other way.
        values: Option<Box<Discrepancy>>,
    },
    Malformed {
        description: &'static str,
        basic: bool,
    },
    /// Unknown client or wrong credentials. The answer does not say which.
    WrongCredentials {
        client: String,
        basic: bool,
    },
    /// An assertion that is refused. The answer does not say why.
    Assertion {
        /// As the request names it; `None` if it names none.
        client: Option<String>,
        refused: RefusedAssertion,
    },
    /// A certificate that is not the client's. The answer does not say why.
    Certificate {
        client: String,
        values: Box<Discrepancy>,
    },
    /// The right credentials from an address that the client may not use. Answered like wrong ones.
    Elsewhere {
        client: Identity,
        basic: bool,
    },
}

/// Why an assertion is refused, with the values that were found and wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RefusedAssertion {
    pub(crate) cause: AssertionCause,
    pub(crate) values: Box<Discrepancy>,
    /// Whether its signature was verified. If not, anybody may have made it.
    pub(crate) is_signed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AssertionCause {
    /// A check that tokens have too.
    Check(TokenError),
    LivesTooLong,
    /// It was used before.
    Replayed,
    /// No client has this id, or the client may not use this way.
    UnknownClient,
    /// A platform token that is a credential of no client, or not of the one that the request names.
    NoFederatedClient,
    /// A platform token that fits several clients.
    SeveralFederatedClients,
}

impl RefusedAssertion {
    pub(crate) fn new(cause: AssertionCause, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { cause, values: Box::new(Discrepancy::new(found, wanted)), is_signed: false }
    }

    /// The same, of an assertion whose signature was verified.
    pub(crate) fn signed(self) -> Self {
        Self { is_signed: true, ..self }
    }
}

impl From<NoSingleClient> for RefusedAssertion {
    fn from(none: NoSingleClient) -> Self {
        match none {
            NoSingleClient::None(values) => Self { cause: AssertionCause::NoFederatedClient, values, is_signed: false },
            NoSingleClient::Several(values) => {
                Self { cause: AssertionCause::SeveralFederatedClients, values, is_signed: false }
            }
        }
    }
}

impl From<FailedCheck> for RefusedAssertion {
    fn from(FailedCheck { reason, values }: FailedCheck) -> Self {
        Self { cause: AssertionCause::Check(reason), values, is_signed: false }
    }
}

impl From<TokenFault> for RefusedAssertion {
    fn from(fault: TokenFault) -> Self {
        FailedCheck::from(fault).into()
    }
}

impl ClientFault {
    pub(crate) fn code(&self) -> TokenErrorCode {
        match self {
            Self::InvalidRequest(_) => TokenErrorCode::InvalidRequest,
            Self::NoCredentials { .. }
            | Self::Malformed { .. }
            | Self::WrongCredentials { .. }
            | Self::Assertion { .. }
            | Self::Certificate { .. }
            | Self::Elsewhere { .. } => TokenErrorCode::InvalidClient,
        }
    }

    /// The public text.
    pub(crate) fn description(&self) -> &'static str {
        match self {
            Self::InvalidRequest(text) | Self::Malformed { description: text, .. } => text,
            Self::NoCredentials { .. } => "no client credentials",
            Self::WrongCredentials { .. }
            | Self::Assertion { .. }
            | Self::Certificate { .. }
            | Self::Elsewhere { .. } => "client authentication failed",
        }
    }

    /// The client that the request names. Verified only if [`Self::is_authenticated`].
    pub(crate) fn client(&self) -> Option<Identity> {
        match self {
            Self::InvalidRequest(_) | Self::Malformed { .. } => None,
            Self::NoCredentials { client, .. } | Self::Assertion { client, .. } => {
                client.as_deref().and_then(|id| Identity::parse(id).ok())
            }
            Self::WrongCredentials { client, .. } | Self::Certificate { client, .. } => Identity::parse(client).ok(),
            Self::Elsewhere { client, .. } => Some(client.clone()),
        }
    }

    /// True if the credentials were right.
    pub(crate) fn is_authenticated(&self) -> bool {
        matches!(self, Self::Elsewhere { .. })
    }

    /// Whether it counts for the back-off. An assertion that its client or platform has not signed does not: a
    /// stranger could delay the client by it, and a signature cannot be guessed.
    pub(crate) fn counts(&self) -> bool {
        match self {
            Self::Assertion { refused, .. } => refused.is_signed,
            Self::InvalidRequest(_)
            | Self::NoCredentials { .. }
            | Self::Malformed { .. }
            | Self::WrongCredentials { .. }
            | Self::Certificate { .. }
            | Self::Elsewhere { .. } => true,
        }
    }

    /// True if the answer needs a Basic challenge (RFC 6749 §5.2).
    pub(crate) fn wants_challenge(&self) -> bool {
        match self {
            Self::InvalidRequest(_)
            | Self::NoCredentials { .. }
            | Self::Assertion { .. }
            | Self::Certificate { .. } => false,
            Self::Malformed { basic, .. } | Self::WrongCredentials { basic, .. } | Self::Elsewhere { basic, .. } => {
                *basic
            }
        }
    }
}
