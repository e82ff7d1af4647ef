//! What is done when a panic comes through: a disk of the host's may panic in the middle of a change.

/// What is done if a panic comes through here.
struct OnPanic<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnPanic<F> {
    #[cold]
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Does `change`, and `on_panic` only if that panics. The panic goes on.
#[inline(always)]
pub(crate) fn watched<T>(change: impl FnOnce() -> T, on_panic: impl FnMut()) -> T {
    let watch = OnPanic(on_panic);
    let result = change();
    std::mem::forget(watch);
    result
}
