//! `cubicle exec`: streams, exit codes, and which descriptors leave this process.

use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::fixtures::ID;
use crate::program::Machine;
use crate::stand_in::{self, done};

/// An engine that runs the command right here, with the three descriptors that it is given.
fn engine(machine: &Machine) {
    stand_in::engine(machine, |call, stream| {
        assert_eq!(call["call"], "exec");
        let streams = receive(stream);
        for stream in &streams {
            let kind = FileType::from_raw_mode(rustix::fs::fstat(stream).expect("open").st_mode);
            assert_eq!(kind, FileType::Fifo, "only pipes may leave");
        }
        let [input, output, errors] = <[OwnedFd; 3]>::try_from(streams).expect("three");
        let words: Vec<&str> =
            call["command"].as_array().expect("words").iter().filter_map(|word| word.as_str()).collect();
        let status = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors))
            .status()
            .expect("runs");
        done(status.code().unwrap_or(128 + 9))
    });
}

fn receive(stream: &UnixStream) -> Vec<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(stream, &mut [IoSliceMut::new(&mut [0])], &mut ancillary, RecvFlags::CMSG_CLOEXEC).expect("received");
    let messages = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(received) => Some(received),
        _ => None,
    });
    messages.flatten().collect()
}

#[test]
fn streams_and_exit_code_pass_through() {
    let machine = Machine::new();
    engine(&machine);
    let ran = machine.run_with(
        ["exec", ID, "--", "sh", "-c", "cat; echo to errors >&2; exit 42"],
        &[],
        "to output\n".as_bytes(),
    );
    assert_eq!((ran.code, ran.output.as_str(), ran.errors.as_str()), (42, "to output\n", "to errors\n"));
}

#[test]
fn options_after_the_dashes_belong_to_the_command() {
    let machine = Machine::new();
    engine(&machine);
    let ran = machine.run(["exec", ID, "--", "echo", "--format", "json", "--help"]);
    assert_eq!((ran.code, ran.output.as_str()), (0, "--format json --help\n"));
}

#[test]
fn nothing_of_a_long_answer_is_lost() {
    let machine = Machine::new();
    engine(&machine);
    let ran = machine.run(["exec", ID, "--", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"]);
    assert_eq!((ran.code, ran.output.len()), (0, 3_000_000));
    assert!(ran.output.bytes().all(|byte| byte == b'x'));
}

#[test]
fn what_the_command_leaves_behind_is_not_waited_for() {
    let machine = Machine::new();
    engine(&machine);
    let begun = Instant::now();
    let ran = machine.run(["exec", ID, "--", "sh", "-c", "echo last words; (sleep 20; echo too late) & exit 3"]);
    assert_eq!((ran.code, ran.output.as_str()), (3, "last words\n"));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn input_that_never_ends_does_not_keep_it() {
    let machine = Machine::new();
    engine(&machine);
    let mut child = Command::new(env!("CARGO_BIN_EXE_cubicle"))
        .env("CUBICLE_HOME", machine.home())
        .args(["exec", ID, "--", "true"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"and the writer stays").expect("room in the pipe");
    let begun = Instant::now();
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_folder_on_standard_input_stays_outside() {
    let machine = Machine::new();
    engine(&machine);
    let ran = Command::new("/bin/sh")
        .args(["-c", &format!("{} exec {ID} -- true < /", env!("CARGO_BIN_EXE_cubicle"))])
        .env("CUBICLE_HOME", machine.home())
        .status()
        .expect("runs");
    assert_eq!(ran.code(), Some(0));
}
