//! `edge-node`: the command line.

mod cli;
mod passwd;

fn main() -> std::process::ExitCode {
    edge_node::memory::settle();
    cli::main()
}
