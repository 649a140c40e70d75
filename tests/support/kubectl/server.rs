//! kubectl as a process that answers call after call (`tests/cluster/kubectl-server`): what each call would do before it
//! knows what is asked takes longer than what most are asked.

use std::{
    collections::HashMap,
    env,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _},
    iter,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::json;

use super::Answer;

/// How many calls one answers. What a command registers for completion in a shell stays in variables of cobra's, and with it
/// all that it has read: a few MiB a call.
const CALLS: u32 = 30;

/// It runs one call at a time.
struct Server {
    answered: u32,
    process: Child,
    calls: ChildStdin,
    statuses: BufReader<ChildStdout>,
    stdin: File,
    stdout: File,
    stderr: File,
}

/// Those that wait for a call. They end with this process, whose end of a pipe closes then.
static IDLE: Mutex<Vec<(PathBuf, Server)>> = Mutex::new(Vec::new());

/// The server that stands beside this kubectl, where there is one.
pub fn beside(kubectl: &Path) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|folder| folder.join(kubectl));
    let kubectl = iter::once(kubectl.to_owned())
        .chain(in_path)
        .find(|kubectl| kubectl.is_file())?;
    let server = kubectl.with_file_name("kubectl-server");
    server.canonicalize().ok()
}

/// Has a server of this program run kubectl with these arguments.
pub fn call(
    program: &Path,
    arguments: &[&str],
    envs: &HashMap<&str, String>,
    input: &str,
) -> Answer {
    let mut server = take(program).unwrap_or_else(|| Server::start(program));
    let (answer, goes_on) = server
        .call(arguments, envs, input)
        .expect("files without a name, and a process of ours");
    server.answered += 1;
    if !goes_on || server.answered == CALLS {
        server.end();
    } else {
        idle().push((program.to_owned(), server));
    }
    answer
}

fn idle() -> MutexGuard<'static, Vec<(PathBuf, Server)>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(program: &Path) -> Option<Server> {
    let mut idle = idle();
    let place = idle.iter().rposition(|(other, _)| other == program)?;
    Some(idle.swap_remove(place).1)
}

// === impl Server ===

impl Server {
    fn start(program: &Path) -> Self {
        let mut process = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl-server starts");
        let file = || tempfile::tempfile().expect("a file without a name");
        Self {
            answered: 0,
            calls: process.stdin.take().expect("stdin is piped"),
            statuses: BufReader::new(process.stdout.take().expect("stdout is piped")),
            process,
            stdin: file(),
            stdout: file(),
            stderr: file(),
        }
    }

    fn end(mut self) {
        drop(self.calls);
        self.process.wait().expect("it was started by us");
    }

    /// What it printed, and whether the server takes another call: a command may end it.
    fn call(
        &mut self,
        arguments: &[&str],
        envs: &HashMap<&str, String>,
        input: &str,
    ) -> io::Result<(Answer, bool)> {
        for file in [&mut self.stdin, &mut self.stdout, &mut self.stderr] {
            file.set_len(0)?;
            file.rewind()?;
        }
        self.stdin.write_all(input.as_bytes())?;
        let [stdin, stdout, stderr] = [&self.stdin, &self.stdout, &self.stderr]
            .map(|file| format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd()));
        let call = json!({
            "args": arguments, "env": envs, "stdin": stdin, "stdout": stdout, "stderr": stderr,
        });
        writeln!(self.calls, "{call}")?;
        let mut status = String::new();
        let goes_on = self.statuses.read_line(&mut status)? > 0;
        let passed = if goes_on {
            status == "0\n"
        } else {
            self.process.wait()?.success()
        };
        let read = |file: &mut File| {
            let mut text = String::new();
            file.read_to_string(&mut text).map(|_| text)
        };
        let answer = Answer {
            passed,
            stdout: read(&mut self.stdout)?,
            stderr: read(&mut self.stderr)?,
        };
        Ok((answer, goes_on))
    }
}
