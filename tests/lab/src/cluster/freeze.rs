//! Tasks of this process stand still as a frozen process does: nothing of them is polled.

use tokio::sync::watch;

/// Runs a task, and lets it stand still while `is_frozen` holds of the value.
pub(crate) async fn unless<T, O>(
    is_frozen: impl Fn(&T) -> bool,
    mut value: watch::Receiver<T>,
    task: impl Future<Output = O>,
) -> O {
    let mut task = std::pin::pin!(task);
    loop {
        // If whoever could freeze it is gone, it goes on.
        let _ = value.wait_for(|value| !is_frozen(value)).await;
        tokio::select! {
            biased;
            Ok(_) = value.wait_for(&is_frozen) => {}
            output = &mut task => return output,
        }
    }
}
