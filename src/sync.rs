//! The one place that names locks, and the atomics and threads of the commit protocol and of the workers, so that a model checker can put its
//! own in their place: under `--cfg idemlog_shuttle` every one of them is a point where another thread may go on.

#[cfg(not(idemlog_shuttle))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(idemlog_shuttle))]
pub(crate) use std::sync::atomic;
#[cfg(not(idemlog_shuttle))]
pub(crate) use std::thread;

#[cfg(idemlog_shuttle)]
pub(crate) use shuttle::sync::atomic;
#[cfg(idemlog_shuttle)]
pub(crate) use shuttle::thread;
#[cfg(idemlog_shuttle)]
pub(crate) use shuttled::{Condvar, Mutex, MutexGuard};

/// The model checker's locks, with the methods of those that take their place otherwise.
#[cfg(idemlog_shuttle)]
mod shuttled {
    use std::ops::{Deref, DerefMut};
    use std::time::Instant;

    use shuttle::sync;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        mutex: &'a sync::Mutex<T>,
        /// `None` only while it is given up.
        inner: Option<sync::MutexGuard<'a, T>>,
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(sync::Condvar);

    /// Nobody is ever out of time here.
    pub(crate) struct InTime;

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { mutex: &self.0, inner: Some(lock(&self.0)) }
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|inner| MutexGuard { mutex: &self.0, inner: Some(inner) })
        }
    }

    /// A thread that panicked fails the model: whoever comes later need not care.
    fn lock<T>(mutex: &sync::Mutex<T>) -> sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    impl<T> MutexGuard<'_, T> {
        /// Whoever is next is the model checker's choice.
        pub(crate) fn unlock_fair(guard: Self) {
            drop(guard);
        }

        pub(crate) fn unlocked<R>(guard: &mut Self, run: impl FnOnce() -> R) -> R {
            guard.inner = None;
            let result = run();
            guard.inner = Some(lock(guard.mutex));
            result
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.inner.as_ref().expect("the lock is held")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.inner.as_mut().expect("the lock is held")
        }
    }

    impl Condvar {
        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            if let Some(inner) = guard.inner.take() {
                let woken = self.0.wait(inner);
                guard.inner = Some(woken.unwrap_or_else(std::sync::PoisonError::into_inner));
            }
        }

        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> InTime {
            self.wait(guard);
            InTime
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    impl InTime {
        pub(crate) fn timed_out(&self) -> bool {
            false
        }
    }
}
