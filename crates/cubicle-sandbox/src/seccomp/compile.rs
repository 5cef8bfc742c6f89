//! From the policy to a classic BPF program: a binary search over call numbers.
//!
//! Written here and not taken from a library, because one filter must answer with three
//! different results (allow, EPERM, ENOSYS): two stacked filters would cost every call twice and
//! would differ from what an OCI runtime installs from the same policy.
//! Source: seccomp(2), Documentation/networking/filter.rst.

use crate::seccomp::policy::{Alternative, Condition, Group, Verdict};

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `AUDIT_ARCH_X86_64` of `linux/audit.h`.
const X86_64: u32 = 0xc000_003e;

/// Answers of a filter.
pub(crate) const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
pub(crate) const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
pub(crate) const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
pub(crate) const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// One instruction, laid out as `struct sock_filter`.
pub(crate) type Instruction = libc::sock_filter;

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn answer(k: u32) -> Instruction {
    instruction(RETURN, 0, 0, k)
}

/// Numbers from `start` on get the verdict, up to the next interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval {
    start: u32,
    verdict: Verdict,
}

/// Compiles groups; numbers that no group names get `otherwise`.
pub(crate) fn compile<'a>(groups: impl Iterator<Item = &'a Group>, otherwise: Verdict) -> Vec<Instruction> {
    let mut named: Vec<(u32, Verdict)> = groups
        .flat_map(|group| {
            group.calls.iter().map(|(_, number)| (u32::try_from(*number).unwrap_or(u32::MAX), group.verdict))
        })
        .collect();
    named.sort_by_key(|(number, _)| *number);
    let mut intervals = vec![Interval { start: 0, verdict: otherwise }];
    let mut next = 0;
    for (number, verdict) in named {
        if number > next {
            push(&mut intervals, Interval { start: next, verdict: otherwise });
        }
        push(&mut intervals, Interval { start: number, verdict });
        next = number.saturating_add(1);
    }
    push(&mut intervals, Interval { start: next, verdict: otherwise });

    let mut program = vec![
        instruction(LOAD_WORD, 0, 0, ARCHITECTURE),
        instruction(JUMP_EQUAL, 1, 0, X86_64),
        // Another architecture has other numbers: nothing that follows would be right.
        answer(KILL),
        instruction(LOAD_WORD, 0, 0, NUMBER),
    ];
    program.extend(search(&intervals));
    program
}

fn push(intervals: &mut Vec<Interval>, interval: Interval) {
    match intervals.last_mut() {
        Some(last) if last.start == interval.start => last.verdict = interval.verdict,
        Some(last) if last.verdict == interval.verdict => {}
        _ => intervals.push(interval),
    }
    // A replaced verdict may now equal its neighbour's.
    if let [.., before, last] = intervals.as_slice()
        && before.verdict == last.verdict
    {
        intervals.pop();
    }
}

fn search(intervals: &[Interval]) -> Vec<Instruction> {
    match intervals {
        [] => vec![answer(KILL)],
        [only] => decide(only.verdict),
        _ => {
            let (low, high) = intervals.split_at(intervals.len() / 2);
            let below = search(low);
            let above = search(high);
            let distance = u32::try_from(below.len()).unwrap_or(u32::MAX);
            let mut program = vec![instruction(JUMP_AT_LEAST, 0, 1, high[0].start), instruction(JUMP, 0, 0, distance)];
            program.extend(below);
            program.extend(above);
            program
        }
    }
}

fn decide(verdict: Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Allow => vec![answer(ALLOW)],
        Verdict::Refuse => vec![answer(REFUSE)],
        Verdict::Unknown => vec![answer(UNKNOWN)],
        Verdict::AllowIf(alternatives) => {
            let mut program: Vec<Instruction> = alternatives.iter().flat_map(|one| attempt(one)).collect();
            program.push(answer(REFUSE));
            program
        }
    }
}

/// Allows when all conditions hold, else goes on behind itself.
fn attempt(alternative: Alternative) -> Vec<Instruction> {
    let mut program = vec![answer(ALLOW)];
    for condition in alternative.iter().rev() {
        // Everything that is already there is skipped when the condition does not hold.
        let skip = u8::try_from(program.len()).unwrap_or(u8::MAX);
        let mut test = Vec::new();
        match condition {
            Condition::Masked { argument, mask, value } => {
                test.push(instruction(LOAD_WORD, 0, 0, ARGUMENTS + 8 * argument));
                if *mask != u32::MAX {
                    test.push(instruction(AND, 0, 0, *mask));
                }
                test.push(instruction(JUMP_EQUAL, 0, skip, *value));
            }
            Condition::NoneOf { argument, values } => {
                test.push(instruction(LOAD_WORD, 0, 0, ARGUMENTS + 8 * argument));
                for (position, value) in values.iter().enumerate() {
                    let left = u8::try_from(values.len() - position - 1).unwrap_or(u8::MAX);
                    test.push(instruction(JUMP_EQUAL, skip.saturating_add(left), 0, *value));
                }
            }
        }
        test.append(&mut program);
        program = test;
    }
    program
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seccomp::policy::GROUPS;

    /// What the kernel does with a program, after Documentation/networking/filter.rst.
    pub(crate) fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            NUMBER => number,
            ARCHITECTURE => architecture,
            other => {
                let argument = arguments[((other - ARGUMENTS) / 8) as usize];
                if (other - ARGUMENTS).is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
        };
        let (mut accumulator, mut at) = (0_u32, 0_usize);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                LOAD_WORD => accumulator = word(k),
                AND => accumulator &= k,
                JUMP => at += k as usize,
                JUMP_EQUAL => at += usize::from(if accumulator == k { jt } else { jf }),
                JUMP_AT_LEAST => at += usize::from(if accumulator >= k { jt } else { jf }),
                RETURN => return k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    /// The policy itself, without any compiler.
    fn expected(number: u32, arguments: [u64; 6]) -> u32 {
        let group = GROUPS.iter().find(|group| group.calls.iter().any(|(_, one)| *one == i64::from(number)));
        match group.map(|group| group.verdict) {
            None | Some(Verdict::Unknown) => UNKNOWN,
            Some(Verdict::Allow) => ALLOW,
            Some(Verdict::Refuse) => REFUSE,
            Some(Verdict::AllowIf(alternatives)) => {
                let holds = |condition: &Condition| match condition {
                    Condition::Masked { argument, mask, value } => {
                        arguments[*argument as usize] as u32 & mask == *value
                    }
                    Condition::NoneOf { argument, values } => !values.contains(&(arguments[*argument as usize] as u32)),
                };
                if alternatives.iter().any(|all| all.iter().all(holds)) { ALLOW } else { REFUSE }
            }
        }
    }

    #[test]
    fn every_number_gets_its_verdict() {
        let program = compile(GROUPS.iter(), Verdict::Unknown);
        assert!(program.len() < 1000, "{} instructions", program.len());
        for number in (0..600).chain([0x4000_0000, 0x4000_0065, u32::MAX]) {
            assert_eq!(run(&program, X86_64, number, [0; 6]), expected(number, [0; 6]), "call {number}");
            assert_eq!(run(&program, 0x4000_0003, number, [0; 6]), KILL);
        }
    }

    proptest! {
        #[test]
        fn arguments_are_judged_as_the_policy_says(
            number in prop::sample::select(GROUPS.iter().filter(|group| matches!(group.verdict, Verdict::AllowIf(_)))
                .flat_map(|group| group.calls.iter().map(|call| call.1 as u32)).collect::<Vec<_>>()),
            arguments in prop::array::uniform6(prop_oneof![
                any::<u64>(), 0_u64..64, prop::sample::select(vec![0x5412_u64, 0x541c, 0xdead_beef_0000_5412, 0x1000_0000,
                0x8001, 0x80801, 0o10644, 0o20644, 0o60000, 0xffff_ffff])]),
        ) {
            let program = compile(GROUPS.iter(), Verdict::Unknown);
            prop_assert_eq!(run(&program, X86_64, number, arguments), expected(number, arguments));
        }
    }
}
