//! The tasks that keep the live facts of a configuration up to date: addresses, keys, health, memory.
//!
//! A task is known by its subject. A task whose subject is also one of the next configuration is not touched, so that
//! a reload causes no look-up, no fetch and no health check. The others end.

use std::collections::HashMap;
use std::pin::Pin;

use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};

/// The subject of a task. The same number stands for the same definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TaskSubject {
    /// The addresses of a name, looked up by the settings of this number.
    Name { name: String, settings: u64 },
    /// The keys of an external issuer, which are fetched or in a file.
    Issuer(u64),
    /// The keys of a client, which are fetched.
    ClientKeys(u64),
    /// The clients in the database.
    StoredClients(u64),
    /// Our own signing keys.
    SigningKeys(u64),
    /// The servers of the upstream of this number.
    HealthChecks(u64),
    /// The budget in bytes.
    Memory(u64),
}

/// A task that has not begun.
pub(super) struct Task {
    subject: TaskSubject,
    run: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Task {
    pub(super) fn new(subject: TaskSubject, run: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { subject, run: Box::pin(run) }
    }
}

/// The running tasks. All end when this is dropped.
#[derive(Debug)]
pub(super) struct Tasks {
    all: JoinSet<()>,
    by_subject: HashMap<TaskSubject, AbortHandle>,
    runtime: Handle,
}

impl Tasks {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { all: JoinSet::new(), by_subject: HashMap::new(), runtime }
    }

    /// Ends the tasks whose subjects are not wanted any more, and begins those whose subjects are new.
    pub(super) fn replace(&mut self, wanted: Vec<Task>) {
        let mut before = std::mem::take(&mut self.by_subject);
        for Task { subject, run } in wanted {
            let running = before.remove(&subject).unwrap_or_else(|| self.all.spawn_on(run, &self.runtime));
            self.by_subject.insert(subject, running);
        }
        before.into_values().for_each(|ended| ended.abort());
        while self.all.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_task_ends_with_its_subject_and_begins_once() {
        let (begun, mut begins) = mpsc::unbounded_channel();
        let task = |number| {
            let begun = begun.clone();
            Task::new(TaskSubject::Issuer(number), async move {
                begun.send(number).unwrap();
                std::future::pending::<()>().await;
            })
        };
        let mut tasks = Tasks::new(Handle::current());
        tasks.replace(vec![task(1), task(2)]);
        assert_eq!([begins.recv().await, begins.recv().await], [Some(1), Some(2)]);
        tasks.replace(vec![task(2), task(3)]);
        assert_eq!(begins.recv().await, Some(3));
        assert_eq!(tasks.all.len(), 3, "the aborted one is still to be joined");
        assert!(tasks.all.join_next().await.unwrap().unwrap_err().is_cancelled());
        assert_eq!((tasks.all.len(), begins.try_recv().is_err()), (2, true));
    }
}
