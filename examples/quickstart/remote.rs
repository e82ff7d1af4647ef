//! The clients' end of the connection: starts the server, talks to it, kills it.

use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::arguments::Command;
use crate::wire::{Request, Response};

/// A running server.
pub(crate) struct Remote {
    child: Child,
    requests: BufWriter<ChildStdin>,
    responses: Receiver<Response>,
}

/// How the server found its directory.
pub(crate) struct Opened {
    pub(crate) elapsed: Duration,
    pub(crate) report: String,
}

impl Remote {
    /// Starts this very program again, as the server, and waits until it has the directory open.
    pub(crate) fn start(directory: &Path, partitions: usize) -> Result<(Self, Opened)> {
        let mut child = Process::new(std::env::current_exe()?)
            .arg(Command::CHILD)
            .args([directory.as_os_str(), partitions.to_string().as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = child.stdin.take().zip(child.stdout.take()).ok_or("the server has no pipes")?;
        let (sender, responses) = mpsc::channel();
        // Reads all the time: a server that cannot answer would take no requests either, and both would wait for ever.
        thread::spawn(move || forward(stdout, &sender));
        let mut remote = Self { child, requests: BufWriter::new(stdin), responses };
        match remote.receive()? {
            Response::Opened { elapsed, report } => Ok((remote, Opened { elapsed, report })),
            _ => Err("the server did not say how it opened the directory".into()),
        }
    }

    /// Sends with the next [`flush`](Self::flush), or earlier.
    pub(crate) fn send(&mut self, request: &Request) -> Result {
        request.write(&mut self.requests).or_else(|error| self.ended(Some(&error)))
    }

    pub(crate) fn flush(&mut self) -> Result {
        self.requests.flush().or_else(|error| self.ended(Some(&error)))
    }

    /// Waits for the next answer.
    pub(crate) fn receive(&mut self) -> Result<Response> {
        self.responses.recv().or_else(|_| self.ended(None))
    }

    /// The next answer, if it is there already.
    pub(crate) fn try_receive(&mut self) -> Option<Response> {
        self.responses.try_recv().ok()
    }

    pub(crate) fn new_producer_id(&mut self) -> Result<i64> {
        self.send(&Request::NewProducerId)?;
        self.flush()?;
        match self.receive()? {
            Response::ProducerId(id) => Ok(id),
            _ => Err("the server gave no producer id".into()),
        }
    }

    /// SIGKILL: the process gets no chance to do anything more. Answers that are on their way are lost with it.
    pub(crate) fn kill(&mut self) -> Result {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Has the server close its directory and end.
    pub(crate) fn close(mut self) -> Result {
        self.send(&Request::Close)?;
        self.flush()?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the server did not close well: {status}").into()) }
    }

    /// The server ended although nobody killed it. Its last words are on standard error.
    fn ended<T>(&mut self, cause: Option<&io::Error>) -> Result<T> {
        let status = self.child.wait()?;
        let cause = cause.map_or(String::new(), |cause| format!(" ({cause})"));
        Err(format!("the server ended on its own, {status}{cause}; what it said is above").into())
    }
}

fn forward(stdout: ChildStdout, responses: &Sender<Response>) {
    let mut stdout = BufReader::new(stdout);
    while let Ok(Some(response)) = Response::read(&mut stdout) {
        if responses.send(response).is_err() {
            return; // nobody listens any more
        }
    }
}
