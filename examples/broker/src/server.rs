//! The life of the process: open the directory, accept connections, and on a signal let them finish and close.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use idemlog::{LogDir, LogDirOptions, LogOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::broker::{Broker, blocking};
use crate::faults::{Chance, Faults};
use crate::{Arguments, connection, coordinator, log};

/// How long connections get to send the answers they owe, once the broker is told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after a connection could not be accepted, which happens when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until SIGTERM or SIGINT. The directory is closed when it returns well.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let dir = open(arguments).await?;
    let faults = Faults {
        lost_acknowledgement: Chance::new(arguments.lose_acks, arguments.seed),
        refusal: Chance::new(arguments.refuse, arguments.seed),
    };
    let (stop, stopping) = watch::channel(false);
    let (opening, partitions) = (dir.clone(), arguments.partitions);
    let broker = blocking(move || Broker::open(opening, partitions, faults, stopping)).await??;
    let broker = Arc::new(broker);
    let listener = TcpListener::bind(arguments.listen).await.context(arguments.listen)?;
    let _ = writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?);

    let mut connections = JoinSet::new();
    tokio::select! {
        () = signals.next() => {}
        () = accept(&listener, &broker, &mut connections) => {}
        () = coordinator::watch_the_time(&broker) => {}
    }
    drop(listener);
    stop.send_replace(true);
    let _ = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
    let served = dir.metrics().sum;
    blocking(move || dir.close()).await?.context("close the log directory")?;
    let _ = writeln!(
        std::io::stdout(),
        "closed: {} batches stored, {} answered as duplicates, {} acknowledgements lost and {} appends refused on purpose",
        served.appended_batches,
        served.duplicates,
        broker.faults.lost_acknowledgement.count(),
        broker.faults.refusal.count(),
    );
    Ok(())
}

async fn open(arguments: &Arguments) -> anyhow::Result<LogDir> {
    let data = arguments.data.clone();
    let opened = blocking(move || LogDir::open(data, options())).await?;
    let dir = opened.context("open the log directory")?;
    for (partition, error) in dir.failed() {
        log(format_args!("{partition} did not open: {error}"));
    }
    Ok(dir)
}

/// How the directory is opened. A batch that comes late must not begin a transaction again that its coordinator has ended.
pub(crate) fn options() -> LogDirOptions {
    LogDirOptions::default().background_threads(2).log(LogOptions::default().verify_transactions(true))
}

async fn accept(listener: &TcpListener, broker: &Arc<Broker>, connections: &mut JoinSet<()>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => drop(connections.spawn(serve(socket, Arc::clone(broker)))),
            Err(error) => {
                log(format_args!("accept a connection: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(socket: TcpStream, broker: Arc<Broker>) {
    let peer = socket.peer_addr().map_or_else(|_| "a client".to_owned(), |address| address.to_string());
    if let Err(reason) = connection::serve(socket, broker).await {
        log(format_args!("closed the connection of {peer}: {reason:#}"));
    }
}

/// The signals that ask the broker to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
