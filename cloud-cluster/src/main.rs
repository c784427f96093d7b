//! The `cloud-cluster` binary.

use std::process::ExitCode;

/// A request of 20 bytes can make Kafka's message structs reserve gigabytes before they are read.
/// With this allocator that takes addresses, not memory; what is read is bounded before that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cloud_cluster::cli::main()
}
