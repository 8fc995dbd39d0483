//! Lets connections in.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::login::{self, Visitor};
use crate::node::Node;

/// After an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves one portal of a portal group, until the future is dropped. Connections that are there go
/// on without it.
pub async fn serve(node: Arc<Node>, target_portal_group_tag: u16, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(place) = node.lobby.enter() else {
                    // Whoever floods us with logins is not owed an answer.
                    tracing::warn!(%peer, "too many logins at once; connection refused");
                    continue;
                };
                let visitor = Visitor { stream, peer, target_portal_group_tag };
                tokio::spawn(login::connection(node.clone(), visitor, place));
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept connections");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The peer went away before it was accepted.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
