//! The cases. Each says in its name what must hold.

mod claim;
mod life;
mod proofs;
mod walls;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use cubicle_sandbox::protocol::RuntimeChoice;

use crate::outside::World;

type Case = (&'static str, fn(&World));

const CASES: &[Case] = &[
    ("a sandbox is built, proven, started once, and stopped without remains", life::life),
    ("nothing starts without a proof, with another nonce, or twice", life::single_use_go),
    ("the first process has no rights and sees only its own", walls::walls),
    ("what enters equals the first process", walls::exec_equals_gate),
    ("commands get their input, output, code and environment", life::exec_behaves),
    ("a command ends when its asker goes away", life::exec_ends_with_its_asker),
    ("refused system calls answer EPERM, unknown ones ENOSYS", walls::refused_calls),
    ("only home, /tmp and shared memory can be written", walls::written_places),
    ("limits bite: processes, memory, /tmp, /dev/shm, home", walls::limits_bite),
    ("the proof runs under small limits and leaves the final ones", proofs::proof_limits),
    ("a later proof sees the same walls from a sibling pid namespace", proofs::later_proof),
    ("hostile code of the same uid cannot disturb a later proof", proofs::hostile_neighbour),
    ("a silent gate makes a disturbed proof that opens nothing", proofs::silent_gate),
    ("the home belongs to the tenant and survives", life::home_survives),
    ("two workspaces of one user share one mount of the home", life::shared_home),
    ("a home is mounted into a running sandbox, and is there the next time", claim::claimed),
    ("a sandbox is claimed once, and only after its proof", claim::once),
    ("a claim with a wrong home is refused, and nobody gets that sandbox any more", claim::refused),
    ("a sandbox ends with its holder, unless somebody has claimed it", claim::held),
    ("two claimed sandboxes of one user share one mount of the home", claim::shared),
    ("data sets are read-only and mounted where the image has no directory", life::datasets),
    ("the egress proxy listens inside and comes back when it dies", life::egress),
    ("a helper outlives whoever started it", life::outlives_its_parent),
    ("a killed helper takes the sandbox along", life::killed_helper),
    ("a notebook that ends by itself is cleaned up and says why", life::notebook_ends),
    ("a sandbox that cannot be built leaves nothing and says why", life::failed_build),
    ("a build without the test feature leaves out no wall", life::no_removal),
    ("a confined process has nothing left", walls::confined),
];

/// Only with a root file system that holds Python with the notebook's packages.
const REAL_IMAGE: Case = ("what people do in notebooks works under the policy", work::real_work);

pub fn run(rootfs: Option<&Path>) -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        println!("these cases need root");
        return ExitCode::FAILURE;
    }
    let only = std::env::var("CONTRACT_ONLY").unwrap_or_default();
    let runc =
        ["/usr/sbin/runc", "/usr/bin/runc", "/bin/runc"].map(PathBuf::from).into_iter().find(|path| path.exists());
    let mut runtimes = vec![("libcontainer", RuntimeChoice::Libcontainer)];
    match runc {
        Some(path) => runtimes.push(("runc", RuntimeChoice::Command(path))),
        None => println!("runc is not here; its half of the contract is not tested"),
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, runtime) in runtimes {
        let world = World::new(rootfs, runtime);
        // Slow, and the same code whatever made the sandbox.
        let slow = |sentence: &str| sentence.starts_with("a silent gate") && name != "libcontainer";
        let real = rootfs.is_some_and(|root| root.join("usr/bin/python3").exists()).then_some(&REAL_IMAGE);
        for (sentence, case) in
            CASES.iter().chain(real).filter(|(sentence, _)| sentence.contains(&only) && !slow(sentence))
        {
            let began = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| case(&world)));
            let word = if result.is_ok() { "ok" } else { "FAILED" };
            println!("{word:6} {name}: {sentence} ({} ms)", began.elapsed().as_millis());
            if result.is_ok() { passed += 1 } else { failed += 1 }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
