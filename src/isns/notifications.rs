//! Where the server sends its notifications: it connects to us.

use std::io;
use std::net::IpAddr;

use isns::message::{Message, Reader};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Connections of the server at a time.
const MAX_CONNECTIONS: usize = 4;

type Notification = (Message, oneshot::Sender<Vec<u8>>);

/// A listener that takes the server's connections, and nobody else's.
pub(super) struct Notifications {
    listener: TcpListener,
    server: IpAddr,
    connections: JoinSet<()>,
    sender: mpsc::Sender<Notification>,
    receiver: mpsc::Receiver<Notification>,
}

impl Notifications {
    pub(super) async fn listen(local: IpAddr, server: IpAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((local, 0)).await?;
        let (sender, receiver) = mpsc::channel(1);
        Ok(Self { listener, server, connections: JoinSet::new(), sender, receiver })
    }

    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }

    /// The next message, and where its answer goes.
    pub(super) async fn next(&mut self) -> Notification {
        loop {
            tokio::select! {
                Some(notification) = self.receiver.recv() => return notification,
                Some(_) = self.connections.join_next() => {}
                Ok((stream, peer)) = self.listener.accept(),
                    if self.connections.len() < MAX_CONNECTIONS =>
                {
                    if peer.ip() == self.server {
                        self.connections.spawn(serve(stream, self.sender.clone()));
                    }
                }
                else => std::future::pending().await,
            }
        }
    }
}

/// Ends when the server closes the connection, or sends what makes no sense.
async fn serve(mut stream: TcpStream, sender: mpsc::Sender<Notification>) {
    let (mut reader, mut buffer) = (Reader::default(), vec![0; 4 << 10]);
    while let Ok(count) = stream.read(&mut buffer).await {
        reader.push(buffer.get(..count).unwrap_or_default());
        while let Ok(Some(message)) = reader.next() {
            let (reply, answer) = oneshot::channel();
            if sender.send((message, reply)).await.is_err() {
                return;
            }
            let Ok(answer) = answer.await else { return };
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        if count == 0 {
            return;
        }
    }
}
