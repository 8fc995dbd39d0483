//! A connection in its full feature phase: one task, that receives what there is, handles every
//! PDU of it, and sends all answers at once.

mod adjacent;
mod command;
mod completion;
mod copy;
mod core;
mod dormant;
mod flights;
mod handover;
mod in_place;
mod inline;
mod limits;
mod liveness;
mod low_water;
mod mailbox;
mod operation;
mod read;
mod receive;
mod reservation;
mod task_management;
mod text;
mod timed;
mod trial;
mod write;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use iscsi_proto::codec::Decoded;
use iscsi_proto::login::LoginOutcome;
use iscsi_proto::pdu::AsyncEvent;
use iscsi_proto::session::TaskId;
use scsi::reservation::Nexus;
use scsi::{Sense, TargetPortGroup, UnitAttention};
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use self::core::Core;
pub(crate) use self::handover::Handover;
use self::in_place::InPlace;
use self::inline::Written;
pub(crate) use self::inline::{MAX_ORDERS, Order, Outcome};
use self::liveness::{Liveness, Silence};
pub(crate) use self::mailbox::{Mailbox, Sender, mailbox};
use self::receive::Receive;
use self::task_management::{Guard, Then};
use crate::buffers;
use crate::clock::Milliseconds;
use crate::events::SessionEnd;
use crate::io::Completion;
use crate::login::Admitted;
use crate::nexus::View;
use crate::node::Node;
use crate::sessions::Ends;
use crate::task_set::Boundary;
use crate::trace::Tap;
use crate::turn::Place;
use crate::unit::LogicalUnit;

/// For so long a session that is over waits for its last answers to be read.
const FAREWELL: Duration = Duration::from_secs(5);
/// Slices of one vectored write (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// What a connection hears from other threads and tasks.
#[derive(Debug)]
pub(crate) enum Message {
    /// Work that was handed off is done.
    Done(Completion),
    /// The session may see something else now, or what it saw. The sender is dropped when nothing
    /// can reach a unit that went away, or write to one that is read-only.
    View(Arc<View>, Option<Arc<oneshot::Sender<()>>>),
    /// These target port groups are in other states now. Who brought them there is not `told`.
    AccessStates { groups: Arc<[TargetPortGroup]>, told: bool },
    /// Another session aborts all tasks of a unit; the guard is dropped when they have ended.
    Abort { unit: Arc<LogicalUnit>, attention: UnitAttention, guard: Arc<Guard> },
    /// There is something to tell of a unit.
    Attention { unit: Arc<LogicalUnit>, condition: UnitAttention },
    /// The same for one nexus, which may be this one: PREEMPT AND ABORT.
    AbortOf { unit: Arc<LogicalUnit>, nexus: Arc<Nexus>, guard: Arc<Guard> },
    /// There is something to tell one nexus, which may be this one.
    AttentionOf { unit: Arc<LogicalUnit>, nexus: Arc<Nexus>, condition: UnitAttention },
    /// Everything that a function or a command waited for has ended.
    Ended(Then),
    /// It is the session's turn in the task set of a unit: it may enable its dormant commands.
    Boundary(Boundary),
    /// An ORDERED command waits for those of a unit that are enabled; the guard is dropped when they
    /// have ended.
    Older { unit: Arc<LogicalUnit>, guard: Arc<Guard> },
    /// An operation that a command waits for has come to its end.
    OperationEnded { task: TaskId, result: Result<(), Sense> },
    /// The initiator shall do something (RFC 7143 §11.9).
    Ask(AsyncEvent),
    /// Limits are others now.
    Limits,
    /// A new connection takes the session over.
    TakeOver(oneshot::Sender<Handover>),
    /// Somebody wants to see what goes over the wire.
    Trace(Box<Tap>),
    /// The session must end.
    Close(SessionEnd),
}

/// How far a connection has come.
enum Turn {
    /// There is nothing to do.
    Sleep,
    /// There is something to be written, see [`inline`].
    Write,
    /// It is over.
    Over(SessionEnd),
}

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    receive: Receive,
    mailbox: Mailbox,
    core: Core,
    liveness: Liveness,
    /// Until when functions are answered.
    bound: Option<Pin<Box<Sleep>>>,
    /// Until when limits make commands wait.
    limit: Option<Pin<Box<Sleep>>>,
    /// The turn goes on behind a write.
    resumes: bool,
    /// It waits for its turn to write.
    place: Option<Place>,
    /// Until when a session that is over may send what it still has to.
    farewell: Option<Pin<Box<Sleep>>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("ends", &self.core.ends).finish_non_exhaustive()
    }
}

impl Connection {
    /// Takes over from the login, whose last response is still to be sent. `None` if the target
    /// went away meanwhile.
    pub(crate) fn new(node: Arc<Node>, admitted: Admitted, response: &[u8]) -> Option<Box<Self>> {
        let Admitted { outcome, admission, stream, ends, rest, sender, mailbox } = admitted;
        let core = Core::new(node, &outcome, admission, ends, sender, response)?;
        Some(Self::over(stream, &rest, core, mailbox))
    }

    /// Goes on with a session whose old connection is gone; the login's last response is still to
    /// be sent.
    pub(crate) fn reinstated(
        handover: Handover,
        outcome: &LoginOutcome,
        stream: TcpStream,
        ends: Ends,
        rest: &[u8],
        response: &[u8],
    ) -> Option<Box<Self>> {
        let (mut core, mailbox) = handover.take()?;
        core.reinstate(outcome, ends, response);
        core.node.sessions.moved(core.admission.tsih, outcome, ends);
        tracing::info!(
            initiator = core.nexus.initiator,
            to = core.nexus.port.target_name,
            address = %ends.peer,
            tsih = core.admission.tsih.0,
            "connection reinstated"
        );
        Some(Self::over(stream, rest, core, mailbox))
    }

    fn over(stream: TcpStream, rest: &[u8], mut core: Core, mailbox: Mailbox) -> Box<Self> {
        core.in_place = InPlace::of(core.node.config.zero_copy_reads, &core.session, &stream);
        let receive = Receive::new(rest);
        let liveness = Liveness::new(core.node.config.nop_interval);
        let (bound, limit, farewell) = (None, None, None);
        let (resumes, place) = (false, None);
        Box::new(Self {
            stream,
            receive,
            mailbox,
            core,
            liveness,
            bound,
            limit,
            resumes,
            place,
            farewell,
        })
    }

    /// Runs the connection to its end, which is that of the session if no other connection takes
    /// it over.
    pub(crate) async fn run(self: Box<Self>) {
        self.core.announce();
        self.go_on().await;
    }

    /// The same, for a connection that has been announced. Ends without it if that went on as
    /// another task.
    pub(crate) async fn go_on(self: Box<Self>) {
        let mut here = Some(self);
        let turns = |cx: &mut Context<'_>| loop {
            let Some(connection) = &mut here else { return Poll::Ready(None) };
            match connection.poll(cx) {
                Turn::Sleep => return Poll::Pending,
                Turn::Over(end) => return Poll::Ready(Some(end)),
                Turn::Write => {
                    let Some(connection) = here.take() else { return Poll::Ready(None) };
                    match inline::write(connection, cx.waker()) {
                        Written::Done(back) => here = Some(back),
                        Written::Waits(back) => {
                            here = Some(back);
                            return Poll::Pending;
                        }
                        Written::Elsewhere => {}
                    }
                }
            }
        };
        let end = poll_fn(turns).await;
        let (Some(end), Some(mut connection)) = (end, here) else { return };
        match connection.core.successor.take() {
            Some(successor) => {
                let Self { core, mailbox, .. } = *connection;
                // A successor that has gone meanwhile leaves the session to its end.
                let _ = successor.send(Handover::new(core, mailbox));
            }
            None => connection.core.finish(end),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Turn {
        let turn = self.turn(cx);
        self.core.trial.turn_over();
        turn
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        let mut resumes = std::mem::take(&mut self.resumes);
        let yields = std::mem::take(&mut self.core.yields);
        if !resumes || self.place.is_some() {
            self.core.now = Milliseconds::now();
        }
        if !resumes {
            self.core.wakes = self.core.ordered;
        }
        if yields {
            self.send(cx);
            self.resumes = !self.core.orders.is_empty();
            cx.waker().wake_by_ref();
            return Turn::Sleep;
        }
        loop {
            // Who goes on behind a write has not looked for messages: it does before it sleeps.
            let mut progress = std::mem::take(&mut resumes);
            if !progress {
                while let Poll::Ready(message) = self.mailbox.poll_recv(cx) {
                    self.core.message(message);
                    progress = true;
                }
                if !self.core.taps.is_empty() {
                    self.begin_traces();
                }
            }
            let wants_more = self.parse();
            if !self.core.orders.is_empty() {
                self.resumes = true;
                return Turn::Write;
            }
            self.look_after_the_initiator(cx);
            self.look_after_functions(cx);
            self.look_after_limits(cx);
            self.core.say_farewell();
            progress |= self.send(cx);
            if !self.core.timed.is_empty() {
                self.core.look_at_timed();
            }
            if self.core.only_sends() && self.farewell_is_over(cx) {
                self.core.disconnected();
            }
            if let Some(end) = self.core.ended() {
                return Turn::Over(end);
            }
            if !self.core.older.is_empty() {
                self.core.look_at_older();
            }
            progress |= wants_more && self.receive(cx);
            if !progress {
                self.core.account();
                self.rest();
                return Turn::Sleep;
            }
        }
    }

    /// Traces begin where PDUs do.
    #[cold]
    fn begin_traces(&mut self) {
        let Core { taps, ends, tx, nexus, .. } = &mut self.core;
        let interface = format!("{} {}", nexus.initiator, nexus.port.target_name);
        taps.begin(*ends, interface.trim_end(), self.receive.filled(), tx.is_empty());
    }

    /// Asks an initiator that is silent whether it is there, and gives it up if it stays silent.
    fn look_after_the_initiator(&mut self, cx: &mut Context<'_>) {
        if !self.core.takes_more() {
            return;
        }
        match self.liveness.poll(cx) {
            Silence::Short => {}
            Silence::Long => {
                self.receive.listen(&self.stream);
                self.core.ping();
            }
            Silence::TooLong => {
                tracing::info!(initiator = self.core.nexus.initiator, "no answer to a NOP-In");
                self.core.disconnected();
            }
        }
    }

    /// Gives up functions that wait for too long.
    fn look_after_functions(&mut self, cx: &mut Context<'_>) {
        while let Some(deadline) = self.core.next_deadline() {
            let timer = || Box::pin(tokio::time::sleep_until(deadline));
            let timer = self.bound.get_or_insert_with(timer);
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.core.give_up_functions(deadline);
        }
    }

    /// Has commands go on that limits have made wait.
    fn look_after_limits(&mut self, cx: &mut Context<'_>) {
        while let Some(until) = self.core.next_release() {
            let until = tokio::time::Instant::from_std(until);
            let timer = || Box::pin(tokio::time::sleep_until(until));
            let timer = self.limit.get_or_insert_with(timer);
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.core.release(Some(std::time::Instant::now()));
        }
    }

    /// An initiator that does not read its last answers is not waited for.
    fn farewell_is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let sleep = self.farewell.get_or_insert_with(|| Box::pin(tokio::time::sleep(FAREWELL)));
        sleep.as_mut().poll(cx).is_ready()
    }

    /// Handles every PDU that is there; true if only more bytes make another one. Behind one that is to
    /// be written on this thread, only those that can be written with it.
    fn parse(&mut self) -> bool {
        while self.core.takes_more() && self.core.has_room() && self.core.takes_orders() {
            if self.core.read_on() {
                continue;
            }
            self.core.received_at = self.receive.address();
            let decoder = self.core.session.decoder();
            let consumed = match decoder.decode(self.receive.filled()) {
                Ok(Decoded::Pdu { pdu, .. } | Decoded::DataDigestMismatch { pdu, .. })
                    if !self.core.orders.is_empty() && !inline::joins(&pdu) =>
                {
                    return false;
                }
                // The buffer stays as it is as long as something is to be written from it.
                Ok(Decoded::Incomplete { .. }) if !self.core.orders.is_empty() => return false,
                Ok(Decoded::Pdu { pdu, consumed }) => {
                    self.core.pdu(&pdu);
                    consumed
                }
                Ok(Decoded::DataDigestMismatch { pdu, consumed }) => {
                    self.core.data_digest_mismatch(&pdu);
                    consumed
                }
                Ok(Decoded::Incomplete { total }) => {
                    self.receive.expect(total);
                    return true;
                }
                Err(error) => {
                    tracing::info!(initiator = self.core.nexus.initiator, %error, "bad framing");
                    self.core.close_after_sending(SessionEnd::ProtocolError("bad framing"));
                    return false;
                }
            };
            self.receive.consume(consumed);
        }
        // What is left may fill the buffer, and is looked at when there is room for its answers.
        false
    }

    /// Sends as much as the socket takes.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while !self.core.tx.is_empty() {
            let sent = if self.core.tx.outside_bytes() > 0 {
                self.poll_send_in_place(cx)
            } else {
                let slices = self.core.tx.io_slices();
                let slices = slices.get(..MAX_SLICES).unwrap_or(&slices);
                let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
                if !self.core.taps.is_empty()
                    && let Poll::Ready(Ok(count)) = &sent
                {
                    self.core.taps.sent(slices, *count);
                }
                sent
            };
            let Poll::Ready(sent) = sent else {
                self.core.blocked = true;
                break;
            };
            let sent = sent.unwrap_or(0);
            if sent == 0 {
                self.core.disconnected();
                break;
            }
            self.core.tx.advance(sent);
            self.core.blocked = false;
            progress = true;
        }
        progress
    }

    /// Receives as much as there is room for.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.core.takes_more() || !self.core.has_room() {
            return false;
        }
        match self.receive.poll(&mut self.stream, cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(count)) if count > 0 => {
                self.liveness.heard();
                if !self.core.taps.is_empty() {
                    self.core.taps.received(self.receive.newest(count));
                }
                true
            }
            Poll::Ready(Ok(_)) => {
                self.core.disconnected();
                true
            }
            Poll::Ready(Err(error)) => {
                if error.kind() != io::ErrorKind::ConnectionReset {
                    tracing::debug!(initiator = self.core.nexus.initiator, %error, "receive failed");
                }
                self.core.disconnected();
                true
            }
        }
    }

    /// Gives the buffers back while there is nothing in them.
    fn rest(&mut self) {
        self.receive.rest();
        if self.core.orders.capacity() > 0 {
            buffers::give_orders(std::mem::take(&mut self.core.orders));
        }
        if let Some(buffer) = self.core.tx.detach() {
            buffers::give_transmit(buffer);
        }
        self.core.rest();
    }
}
