//! A request from its head to the end of its answer's body.
//!
//! Counts as in flight until it is dropped. Closed, it writes its audit line and its metrics. Dropped before it is
//! closed, because the client disconnected or because of a fault of ours, it writes them all the same.

use std::rc::Rc;

use http::StatusCode;

use super::recorded_identity::RecordedIdentity;
use super::recorder::Recorder;
use super::request_log::RequestLog;
use crate::audit::aggregate::Kind;
use crate::audit::ledger::{LineSlot, Unavailable};
use crate::audit::reason::Reason;
use crate::issuer::authorization_server::Issued;
use crate::oauth::identity::Identity;
use crate::pipeline::policy::current_snapshot::CurrentSnapshot;
use crate::pipeline::policy::limits::LimitCounts;
use crate::pipeline::policy::open_streams::{BegunStream, OpenStream, OpenStreams, StreamEnd, StreamRequest};
use crate::pipeline::request::peer::Peer;
use crate::pipeline::routing::rate_limit::{CountedLimit, LimitCount};
use crate::pipeline::routing::snapshot::{SharedSnapshot, Snapshot};

#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) log: RequestLog,
    pub(crate) recorder: Rc<Recorder>,
    /// The counts against the limits of the matched rule.
    pub(crate) counts: LimitCounts,
    /// The counts against the limits of one of our own clients. Most requests have none.
    pub(crate) client_counts: Option<Box<ClientCounts>>,
    slot: Option<LineSlot>,
    /// Its line is on the disk already. Another is written only if the request fails after that.
    committed: bool,
    open: bool,
    /// It counts as in flight.
    in_flight: bool,
    /// Of an answer or a tunnel that may last.
    stream: Option<OpenStream>,
}

/// The counts against a client's limits.
#[derive(Debug)]
pub(crate) struct ClientCounts {
    pub(crate) client: Identity,
    pub(crate) counts: LimitCounts,
}

impl OpenRequest {
    pub(crate) fn begin(recorder: &Rc<Recorder>, snapshot: SharedSnapshot, peer: &Rc<Peer>) -> Box<Self> {
        recorder.load.begin();
        peer.in_flight.iter().for_each(|counter| counter.begin());
        Box::new(Self {
            log: RequestLog::new(snapshot, peer, recorder.request_ids.next()),
            recorder: Rc::clone(recorder),
            counts: LimitCounts::default(),
            client_counts: None,
            slot: None,
            committed: false,
            open: true,
            in_flight: true,
            stream: None,
        })
    }

    /// Reserves a slot in the audit log. A protected request is refused without one.
    pub(crate) fn reserve(&mut self) -> Result<(), Unavailable> {
        self.slot = self.recorder.ledger.reserve()?;
        Ok(())
    }

    /// Reserves a slot if there is room, for a request that is answered even without one.
    pub(crate) fn reserve_if_roomy(&mut self) {
        self.slot = self.recorder.ledger.reserve_optional();
    }

    /// Reserves a slot for a request to a protected or a public route.
    pub(crate) fn reserve_for(&mut self, is_protected: bool) -> Result<(), Unavailable> {
        if is_protected {
            return self.reserve();
        }
        self.reserve_if_roomy();
        Ok(())
    }

    /// For a protected request, if the configuration requires it: waits until the line about this answer is on the
    /// disk. If that fails, the answer must not be sent.
    pub(crate) async fn commit(&mut self, status: StatusCode) -> Result<(), Unavailable> {
        let waits = self.recorder.ledger.synced() >= self.log.least_synced();
        let Some(slot) = self.slot.take_if(|_| waits) else { return Ok(()) };
        self.log.status = Some(status.as_u16());
        self.committed = true;
        let duration = self.log.elapsed();
        let commit = slot.commit(|buffer| self.log.record(duration).write(buffer));
        commit.await
    }

    /// A token was issued.
    pub(crate) fn granted(&mut self, issued: Issued) {
        let now = self.log.now;
        self.recorder.metrics(|metrics| metrics.granted(issued.method));
        if let Some(secret) = issued.credential.secret() {
            self.recorder.metrics(|metrics| metrics.secret_used(&issued.client, secret, now));
        }
        self.log.granted(issued);
    }

    /// Records what the rate limit at this place of the matched rule counted.
    pub(crate) fn counted(&mut self, index: usize, count: LimitCount) {
        self.counts.set(index, count);
        self.count(CountedLimit::OfRule(index), count);
    }

    /// The same for a limit of one of our own clients.
    pub(crate) fn counted_for(&mut self, client: &Identity, index: usize, count: LimitCount) {
        let counts = || Box::new(ClientCounts { client: client.clone(), counts: LimitCounts::default() });
        self.client_counts.get_or_insert_with(counts).counts.set(index, count);
        self.count(CountedLimit::OfClient(index), count);
    }

    fn count(&mut self, limit: CountedLimit, count: LimitCount) {
        self.log.ratelimit_mode = count.by.mode_of_loss().or(self.log.ratelimit_mode);
        let series = self.log.series();
        self.recorder.metrics(|metrics| {
            if count.allowed {
                metrics.let_through(series, limit);
            } else {
                metrics.refused_by(series, limit, self.log.proven_client());
            }
        });
    }

    /// Refused, with what the request claimed of its caller.
    pub(crate) fn refused(&mut self, reason: Reason, identity: Option<RecordedIdentity>) {
        let recorded = self.recorded(reason);
        self.log.ended_by(recorded);
        if let Some(identity) = identity {
            self.log.identity = identity;
        }
    }

    fn recorded(&self, reason: Reason) -> Reason {
        self.recorder.recorded(reason, self.log.peer().listener)
    }

    /// The answer's body could not be sent to its end.
    pub(crate) fn broke_off(&mut self, reason: Reason) {
        let recorded = self.recorded(reason);
        self.log.ended_by(recorded);
        self.close();
    }

    /// The stream is not let in any more.
    pub(crate) fn stream_ended(&mut self, end: &StreamEnd) {
        self.log.stream_ended(end.reason());
        self.close();
    }

    /// The answer may last for hours: it is judged again under each new configuration.
    pub(crate) fn keeps_stream(
        &mut self,
        streams: &Rc<OpenStreams>,
        (snapshot, current): (&Snapshot, &CurrentSnapshot),
        begun: BegunStream,
    ) {
        let BegunStream { request, fields, protocol, is_grpc } = begun;
        let (peer, caller) = (self.log.shared_peer(), self.log.verified_caller());
        let begun = StreamRequest { request, fields, protocol, is_grpc, peer, caller };
        self.stream = Some(streams.add(begun, snapshot, current));
    }

    pub(crate) fn stream(&self) -> Option<&OpenStream> {
        self.stream.as_ref()
    }

    /// Writes the line of a tunnel, which counts in flight no more.
    pub(crate) fn becomes_tunnel(&mut self) {
        self.close();
        self.end_flight();
    }

    /// False once a new configuration or a change of its client has ended the tunnel. Its end has a line of its own.
    pub(crate) fn may_continue(&mut self) -> bool {
        let Some(end) = self.stream.as_ref().and_then(OpenStream::end) else { return true };
        if !self.log.has_reason() {
            self.log.stream_ended(end.reason());
            let slot = self.recorder.ledger.slot_or_aggregate(&self.log.decided(self.log.kind(true)), None);
            if let Some(slot) = slot {
                slot.write(|buffer| self.log.record(self.log.elapsed()).write(buffer));
            }
        }
        false
    }

    fn end_flight(&mut self) {
        if std::mem::replace(&mut self.in_flight, false) {
            self.recorder.load.end();
            self.log.peer().in_flight.iter().for_each(|counter| counter.end());
        }
    }

    /// Writes the line and counts the request, once.
    pub(crate) fn close(&mut self) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        let duration = self.log.elapsed();
        if !self.committed || self.log.has_reason() {
            let slot = match (self.slot.take(), self.log.kind(self.committed)) {
                (Some(slot), Kind::Answered(_) | Kind::Refused(_)) => Some(slot),
                (slot, kind) => self.recorder.ledger.slot_or_aggregate(&self.log.decided(kind), slot),
            };
            if let Some(slot) = slot {
                slot.write(|buffer| self.log.record(duration).write(buffer));
            }
        }
        let outcome = self.log.outcome(duration);
        self.recorder.metrics(|metrics| metrics.ended(&outcome));
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if self.open {
            let reason = if std::thread::panicking() { Reason::Internal } else { Reason::ClientGone };
            let recorded = self.recorded(reason);
            self.log.ended_by(recorded);
            self.close();
        }
        self.end_flight();
    }
}
