//! `run`.

use std::io::IsTerminal;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Settings;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub settings: Settings,
    /// Print the effective configuration and exit.
    #[arg(long)]
    print_config: bool,
}

impl Run {
    pub(super) fn run(&self) -> Result<(), String> {
        let config = self.settings.effective().map_err(|e| e.to_string())?;
        if self.print_config {
            print!("{}", config.to_toml());
            return Ok(());
        }
        log_to_stderr(&config);
        headwater_gate::files::raise_limit();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| format!("the runtime does not start: {e}"))?;
        let result = runtime.block_on(async {
            let stop = stop_signal().map_err(|e| format!("signals: {e}"))?;
            crate::run(config, stop).await.map_err(|e| e.to_string())
        });
        // Blocking work that is still under way must not hold up the end.
        runtime.shutdown_timeout(std::time::Duration::from_millis(200));
        result
    }
}

fn log_to_stderr(config: &Config) {
    let filter = EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(&config.log_level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
