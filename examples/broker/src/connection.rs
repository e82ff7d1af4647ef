//! One client: its requests in their order, and their answers in the same.
//!
//! Handling a request has two halves. The first is done before the next request is read, so that batches are stored in
//! the order in which they were sent; the second, waiting for durability or for something to read, goes on while later
//! requests come in. An error of either closes the connection, after the answers to the requests before it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::api::{self, Reply};
use crate::broker::Broker;
use crate::frame;
use crate::request::Request;

/// How many requests of one connection may wait for their answers; then no more are read.
const PIPELINE: usize = 32;

/// Serves a client until it or the broker closes the connection. An error says why the broker did.
pub(crate) async fn serve(socket: TcpStream, broker: Arc<Broker>) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let address = socket.local_addr()?;
    let (reader, writer) = socket.into_split();
    let (replies, in_order) = mpsc::channel(PIPELINE);
    tokio::try_join!(
        async {
            tokio::select! {
                () = broker.stopping() => {}
                () = read_requests(BufReader::new(reader), address, &broker, replies) => {}
            }
            Ok(())
        },
        write_replies(BufWriter::new(writer), in_order),
    )?;
    Ok(())
}

/// Reads requests until the client has no more, or one cannot be answered.
async fn read_requests(
    mut reader: impl AsyncRead + Unpin,
    address: SocketAddr,
    broker: &Arc<Broker>,
    replies: Sender<Reply>,
) {
    loop {
        let reply = match frame::read(&mut reader).await {
            Ok(None) => return,
            Ok(Some(bytes)) => match Request::decode(bytes, address) {
                Ok(request) => api::handle(broker, request).await,
                Err(malformed) => Err(malformed),
            },
            Err(error) => Err(error.into()),
        };
        let is_last = reply.is_err();
        let reply = reply.unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))));
        if replies.send(reply).await.is_err() || is_last {
            return;
        }
    }
}

async fn write_replies(
    mut writer: impl AsyncWrite + Unpin,
    mut replies: Receiver<Reply>,
) -> anyhow::Result<()> {
    while let Some(reply) = replies.recv().await {
        if let Some(frame) = reply.await? {
            frame.write(&mut writer).await?;
        }
    }
    Ok(())
}
