//! The `exuvia` program: parse, run, exit.

fn main() -> std::process::ExitCode {
    exuvia::cli::main(|code| std::process::exit(code))
}
