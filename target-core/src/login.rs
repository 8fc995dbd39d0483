//! A connection from its first byte to the full feature phase.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::{Mailbox, Sender, mailbox};
use iscsi_proto::Tsih;
use iscsi_proto::codec::{Decoded, Decoder, MAX_AHS_LENGTH};
use iscsi_proto::login::{
    LOGIN_SEGMENT_LENGTH, Login, LoginConfig, LoginOutcome, LoginStatus, LoginStep,
};
use iscsi_proto::pdu::BHS_LENGTH;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::connection::Connection;
use crate::lobby::Place;
use crate::node::{Node, Visit};
use crate::sessions::{Admission, Ends};

/// A peer that is gone without a word is noticed after about this long.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What was sent and is not acknowledged, or not taken, for so long ends the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection that has just been accepted.
pub(crate) struct Visitor {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// Of the portal.
    pub(crate) target_portal_group_tag: u16,
}

/// Everything that a connection does, from here on.
pub(crate) async fn connection(node: Arc<Node>, visitor: Visitor, mut place: Place) {
    let peer = visitor.peer;
    let lost = place.lost();
    // Boxed, so that a session that waits does not carry the login's state along.
    let login = Box::pin(lost.run_until_cancelled(tokio::time::timeout(
        node.config.login_timeout,
        log_in(node.clone(), visitor, &mut place),
    )));
    let Some(login) = login.await else {
        tracing::debug!(%peer, "connection closed in favour of another: it was silent");
        return;
    };
    let admitted = match login {
        Ok(Ok(admitted)) => admitted,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "login ended");
            None
        }
        Err(_) => {
            tracing::info!(%peer, "login took too long");
            None
        }
    };
    // A session carries nothing of that along.
    drop((place, lost));
    if let Some(connection) = admitted {
        connection.run().await;
    }
}

/// What is known once a login has succeeded.
pub(crate) struct Admitted {
    pub(crate) outcome: Box<LoginOutcome>,
    pub(crate) admission: Admission,
    pub(crate) stream: TcpStream,
    pub(crate) ends: Ends,
    /// What came behind the last Login Request.
    pub(crate) rest: Vec<u8>,
    pub(crate) sender: Sender,
    pub(crate) mailbox: Mailbox,
}

async fn log_in(
    node: Arc<Node>,
    visitor: Visitor,
    place: &mut Place,
) -> io::Result<Option<Box<Connection>>> {
    let Visitor { mut stream, peer, target_portal_group_tag } = visitor;
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let ends = Ends { peer, local: stream.local_addr()? };
    let mut login = Login::new(LoginConfig {
        offer: node.config.offer,
        target_portal_group_tag,
        window: node.config.max_tasks,
    });
    let policy = Visit { node: &node, address: peer.ip(), group: target_portal_group_tag };
    let decoder = Decoder::for_login(LOGIN_SEGMENT_LENGTH);
    let limit = BHS_LENGTH + MAX_AHS_LENGTH as usize + LOGIN_SEGMENT_LENGTH as usize;
    let (mut input, mut output) = (Vec::new(), Vec::new());
    loop {
        let (step, consumed) = match decoder.decode(&input) {
            Ok(Decoded::Incomplete { .. }) => {
                input.reserve(limit.saturating_sub(input.len()));
                // A PDU never needs more than the limit, so there is always room.
                if stream.read_buf(&mut input).await? == 0 {
                    return Ok(None);
                }
                continue;
            }
            Ok(Decoded::Pdu { pdu, consumed } | Decoded::DataDigestMismatch { pdu, consumed }) => {
                (login.handle(&pdu, &policy, &mut output), consumed)
            }
            Err(error) => {
                tracing::info!(%peer, %error, "not an iSCSI login");
                return Ok(None);
            }
        };
        if !place.speaks() {
            return Ok(None);
        }
        input.drain(..consumed);
        match step {
            LoginStep::Respond => send(&mut stream, &mut output).await?,
            LoginStep::Fail(status) => {
                let initiator = login.initiator_name().map_or("", |name| name.as_str());
                tracing::info!(%peer, initiator, %status, "login refused");
                send(&mut stream, &mut output).await?;
                stream.shutdown().await?;
                return Ok(None);
            }
            LoginStep::Admit(outcome) => {
                let rest = input;
                let candidate = Candidate { login, outcome, stream, ends, rest, output };
                return candidate.admit(node).await;
            }
        }
    }
}

/// A login that has settled everything but what session it is for.
struct Candidate {
    login: Login,
    outcome: Box<LoginOutcome>,
    stream: TcpStream,
    ends: Ends,
    /// What came behind the last Login Request.
    rest: Vec<u8>,
    output: Vec<u8>,
}

impl Candidate {
    async fn admit(self, node: Arc<Node>) -> io::Result<Option<Box<Connection>>> {
        if self.outcome.requested_tsih == Tsih::NEW {
            self.begin(node).await
        } else {
            self.take_over(&node).await
        }
    }

    /// Begins a session.
    async fn begin(mut self, node: Arc<Node>) -> io::Result<Option<Box<Connection>>> {
        let (sender, mailbox) = mailbox();
        let admission = node.sessions.admit(&self.outcome, self.ends, &sender);
        let admission = match within(node.config.abort_time, admission).await {
            Ok(admission) => admission,
            Err(status) => return self.refuse(status).await,
        };
        self.login.admit(Ok(admission.tsih), &mut self.output);
        let Self { outcome, stream, ends, rest, output, .. } = self;
        let admitted = Admitted { outcome, admission, stream, ends, rest, sender, mailbox };
        Ok(Connection::new(node, admitted, &output))
    }

    /// Goes on with a session that is there.
    async fn take_over(mut self, node: &Node) -> io::Result<Option<Box<Connection>>> {
        let handover = node.sessions.take_over(&self.outcome);
        let handover = match within(node.config.abort_time, handover).await {
            Ok(handover) => handover,
            Err(status) => return self.refuse(status).await,
        };
        let Some((tsih, exp_cmd_sn, max_cmd_sn)) = handover.numbers() else { return Ok(None) };
        self.login.admit_into(tsih, exp_cmd_sn, max_cmd_sn, &mut self.output);
        let Self { outcome, stream, ends, rest, output, .. } = self;
        Ok(Connection::reinstated(handover, &outcome, stream, ends, &rest, &output))
    }

    async fn refuse(mut self, status: LoginStatus) -> io::Result<Option<Box<Connection>>> {
        self.login.admit(Err(status), &mut self.output);
        tracing::info!(peer = %self.ends.peer, %status, "login refused");
        send(&mut self.stream, &mut self.output).await?;
        self.stream.shutdown().await?;
        Ok(None)
    }
}

/// What takes longer is refused: a device holds on to commands of the session that is to end.
/// Initiators try again.
async fn within<T>(
    bound: Duration,
    admission: impl Future<Output = Result<T, LoginStatus>>,
) -> Result<T, LoginStatus> {
    let admission = tokio::time::timeout(bound, admission).await;
    admission.unwrap_or(Err(LoginStatus::ServiceUnavailable))
}

async fn send(stream: &mut TcpStream, output: &mut Vec<u8>) -> io::Result<()> {
    stream.write_all(output).await?;
    output.clear();
    Ok(())
}
