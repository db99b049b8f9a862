//! Every rule that HTTP/2 and HPACK lay on a server (RFC 9113, RFC 7541), frame by frame; where RFC 9113 has dropped or
//! moved a rule of RFC 7540, the older section is named.
//!
//! A case is what a client says and what must follow. Each is said in one breath and frame by frame, to a gateway whose
//! upstream reads the whole request first, to one whose upstream answers as soon as it has the head, and to one that
//! refuses the request itself: what a client may not do, it may not do at any moment.

mod early;
mod exchanges;
mod fields;
mod floods;
mod framing;
mod hpack;
mod kinds;
mod smuggling;
mod streams;

use http::Response;
use http_body_util::Full;

use crate::support::frames::{Frame, Framed, GOAWAY, HEADERS, Heard, PING};
use crate::support::wire::RawUpstream;
use crate::support::{Gateway, Upstream};

pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;

pub(crate) struct Case {
    rule: &'static str,
    /// Both prefaces have been exchanged before the first step.
    introduced: bool,
    steps: Vec<Step>,
    outcome: Outcome,
}

/// The next step of the client.
pub(crate) enum Step {
    Say(Vec<u8>),
    /// Listens until such a frame has come.
    Until(fn(&Frame) -> bool),
}

/// The expected result. A closed connection is always an answer to an error.
pub(crate) enum Outcome {
    ConnectionError(&'static [u32]),
    StreamError(&'static [u32]),
    Closed,
    /// A head on stream 1.
    Answered,
    /// The first frame of this type is such a one.
    First(u8, fn(&Frame) -> bool),
    /// The ping is answered, or the connection closed.
    PongOrClosed,
}

impl From<Vec<u8>> for Step {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Say(bytes)
    }
}

/// A case on a connection that is past its prefaces.
macro_rules! case {
    ($rule:literal: [$($step:expr),* $(,)?] => $outcome:expr) => {
        crate::http2::Case { rule: $rule, introduced: true, steps: vec![$($step.into()),*], outcome: $outcome }
    };
    (new $rule:literal: [$($step:expr),* $(,)?] => $outcome:expr) => {
        crate::http2::Case { rule: $rule, introduced: false, steps: vec![$($step.into()),*], outcome: $outcome }
    };
}
pub(crate) use case;

/// The answer of upstreams here: long enough to be cut by a small window.
const ANSWER: &str = "0123456789";

pub(crate) const STREAM_ENDS: Step = Step::Until(Frame::ends_stream);

pub(crate) fn is_pong(frame: &Frame) -> bool {
    frame.kind == PING && frame.flags & 1 == 1
}

/// How the frames of one step come to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    InOneBreath,
    FrameByFrame,
}

/// Reads the whole request before it answers.
async fn patient() -> Upstream {
    Upstream::answering(|_| Response::new(Full::from(ANSWER))).await
}

/// Answers as soon as it has the head.
async fn hasty() -> RawUpstream {
    RawUpstream::saying_and_staying(format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    ))
    .await
}

/// Every case, at every pace, however the request is answered.
pub(crate) async fn all_hold(cases: &[Case]) {
    let (patient, hasty) = (patient().await, hasty().await);
    let mut broken = Vec::new();
    let gateways = [
        ("patient", Gateway::open(patient.address, "")),
        ("hasty", Gateway::open(hasty.address, "")),
        ("refusing", Gateway::before(patient.address, &["path: /, access: {}"])),
    ];
    for (name, gateway) in &gateways {
        for pace in [Pace::InOneBreath, Pace::FrameByFrame] {
            for case in cases {
                if let Err(heard) = judge(gateway, case, pace).await {
                    broken.push(format!("{} ({name}, {pace:?}): {heard}", case.rule));
                }
            }
        }
        assert!(!gateway.log_text().contains("panicked"), "{}", gateway.log_text());
    }
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), cases.len() * 6, broken.join("\n"));
}

async fn judge(gateway: &Gateway, case: &Case, pace: Pace) -> Result<(), String> {
    let mut client = match case.introduced {
        true => Framed::open(gateway).await,
        false => Framed::silent(gateway).await,
    };
    let mut breath = Vec::new();
    for step in &case.steps {
        match step {
            Step::Say(bytes) if pace == Pace::InOneBreath => breath.extend(bytes),
            Step::Say(bytes) => client.say(bytes).await,
            Step::Until(fits) => {
                client.say(&std::mem::take(&mut breath)).await;
                client.until(fits).await.map_err(|end| format!("{end:?} in the middle"))?;
            }
        }
    }
    client.say(&breath).await;
    follows(&mut client, &case.outcome).await
}

async fn follows(client: &mut Framed, outcome: &Outcome) -> Result<(), String> {
    let mut others = Vec::new();
    loop {
        let heard = client.next().await;
        let held = match (&heard, outcome) {
            (
                Heard::Closed,
                Outcome::ConnectionError(_) | Outcome::StreamError(_) | Outcome::Closed | Outcome::PongOrClosed,
            ) => true,
            (Heard::Closed | Heard::Reset | Heard::Silence, _) => return Err(format!("{heard:?} after {others:?}")),
            (Heard::Frame(frame), Outcome::ConnectionError(codes)) => {
                frame.kind == GOAWAY && frame.code().is_some_and(|code| codes.contains(&code))
            }
            (Heard::Frame(frame), Outcome::StreamError(codes)) => {
                frame.code().is_some_and(|code| codes.contains(&code))
            }
            (Heard::Frame(frame), Outcome::PongOrClosed) => is_pong(frame),
            (Heard::Frame(frame), Outcome::Answered) => frame.kind == HEADERS && frame.stream == 1,
            (Heard::Frame(frame), Outcome::First(kind, fits)) if frame.kind == *kind => {
                return if fits(frame) { Ok(()) } else { Err(format!("{frame:?} after {others:?}")) };
            }
            (Heard::Frame(_), Outcome::First(..) | Outcome::Closed) => false,
        };
        if held {
            return Ok(());
        }
        others.push(heard);
    }
}

/// The suite is not thinned out unseen.
#[test]
fn the_suite_has_all_its_cases() {
    let count = |all: &[fn() -> Vec<Case>]| all.iter().map(|cases| cases().len()).sum::<usize>();
    let accepted = count(&[exchanges::cases, hpack::accepted]);
    let rules = count(&[framing::cases, streams::cases, kinds::cases, kinds::settings_and_windows, fields::cases]);
    assert_eq!((accepted, rules, count(&[hpack::refused])), (44, 97, 8));
}
