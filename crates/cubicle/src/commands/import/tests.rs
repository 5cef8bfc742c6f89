use cubicle_core::template::Template;

use super::reading::{Outcome, Setting};
use super::{hatchery, import, jupyterhub};

const HATCHERY: &str = include_str!("samples/hatchery.json");
const VALUES: &str = include_str!("samples/values.yaml");

/// Every template is what `cubicle template apply` reads and takes.
fn applied(templates: &[Template]) {
    for template in templates {
        let text = serde_norway::to_string(template).expect("YAML");
        let read: Template = serde_norway::from_str(&text).expect("a template");
        assert_eq!(&read, template);
        read.validate().expect("valid");
    }
}

fn refused(settings: &[Setting]) -> Vec<(&str, u32)> {
    let refused = settings.iter().filter(|setting| setting.outcome == Outcome::Refused);
    refused.map(|setting| (setting.key.as_str(), setting.line)).collect()
}

fn why<'a>(settings: &'a [Setting], key: &str) -> &'a str {
    &settings.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("{key} is not told")).why
}

#[test]
fn a_hatchery_file_becomes_templates_and_a_whole_list() {
    let (templates, settings) = import("h.json", HATCHERY.as_bytes(), hatchery::read).expect("imported");
    applied(&templates);
    let [lab, desk] = &templates[..] else { panic!("{templates:?}") };
    assert_eq!(
        (lab.metadata.name.as_str(), lab.spec.description.as_str()),
        ("generic-jupyter-lab", "(Generic) Jupyter Lab")
    );
    assert_eq!((lab.spec.resources.cpu.0, lab.spec.resources.memory.0), (1500, 2 << 30));
    assert_eq!((lab.spec.home.size.0, lab.spec.home.mount_path.as_str()), (10 << 30, "/home/user/pd"));
    assert_eq!((lab.spec.idle.after.0, lab.spec.command.len()), (5400, 0));
    // Listening below 1024 is impossible; another command than Jupyter's stays.
    assert_eq!((desk.spec.port, desk.spec.command.join(" ")), (8888, "/desk --quiet".to_owned()));
    // Whoever was kept out stays out.
    assert_eq!(desk.spec.groups, ["desk"]);
    assert_eq!(lab.spec.groups, [""; 0]);
    assert_eq!(
        refused(&settings),
        [
            ("sidecar", 6),
            ("sidecar (mount /data)", 6),
            ("containers[1].gpu", 41),
            ("containers[1].friends[0]", 47),
            ("containers[1].friends[0].volumeMounts", 48),
        ]
    );
    assert!(why(&settings, "sidecar").contains("registry.site.example/fuse:1"));
    assert!(why(&settings, "containers[1].friends[0]").contains("\"helper\" is privileged"));
    assert!(why(&settings, "containers[1].friends[0].volumeMounts").contains("/data Bidirectional"));
}

/// Nothing of a file is lost silently: every key of it is in the list.
#[test]
fn every_key_is_told() {
    let (_, settings) = import("h.json", HATCHERY.as_bytes(), hatchery::read).expect("imported");
    let file: serde_json::Value = serde_json::from_str(HATCHERY).expect("JSON");
    let told =
        |key: &str| settings.iter().any(|setting| setting.key == key || setting.key.starts_with(&format!("{key}[")));
    for key in file.as_object().expect("a mapping").keys().filter(|key| *key != "containers") {
        assert!(told(key), "{key}");
    }
    for (position, container) in file["containers"].as_array().expect("a list").iter().enumerate() {
        for key in container.as_object().expect("a mapping").keys() {
            assert!(told(&format!("containers[{position}].{key}")), "{position} {key}");
        }
    }
    assert!(settings.iter().all(|setting| setting.outcome == Outcome::CarriedOver || !setting.why.is_empty()));
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_line() {
    let text = "{\n \"colour\": 1,\n \"user-volume-size\": \"much\",\n \"containers\": [\n  {\"name\": \"a\",\n   \"image\": \"i\",\n   \"shape\": 2,\n   \"cpu-limit\": []}]\n}\n";
    let problem = import("h.json", text.as_bytes(), hatchery::read).expect_err("refused");
    let lines: Vec<&str> = problem.what.lines().collect();
    assert_eq!(lines.len(), 4, "{}", problem.what);
    for (line, begin) in lines.iter().zip([
        "h.json:2: colour is not",
        "h.json:3: user-volume-size: \"much\"",
        "h.json:7: containers[0].shape is not",
        "h.json:8: containers[0].cpu-limit must be",
    ]) {
        assert!(line.starts_with(begin), "{line}");
    }
}

#[test]
fn hostile_files_are_refused_and_end_soon() {
    for text in [
        "",
        "[]",
        "{}",
        "[1, 2",
        "\u{0}",
        "{\"containers\": 3}",
        "containers: [1]",
        "a: &a [*a]",
        "--- 1\n--- 2\n",
        "{\"containers\": [{}]}",
        "{\"containers\": [{\"image\": \"a b\"}]}",
        "{\"a\": 1, \"a\": 2}",
    ] {
        assert!(import("f", text.as_bytes(), hatchery::read).is_err(), "{text:?}");
    }
    for text in [
        "",
        "[]",
        "[3]",
        "- {}\n- x: 1\n",
        "singleuser: 3",
        "singleuser: {profileList: 3}",
        "singleuser: {image: {tag: 1}}",
    ] {
        assert!(import("f", text.as_bytes(), jupyterhub::read).is_err(), "{text:?}");
    }
    let many: String = (0..8)
        .map(|option| {
            format!("{{name: o{option}}}: {{}}\n")
                .replace(&format!("{{name: o{option}}}"), &format!("    o{option}"))
                .replace("{}", "{choices: {a: {}, b: {}, c: {}, d: {}}}")
        })
        .collect();
    let bomb = format!("- display_name: x\n  profile_options:\n{many}");
    let problem = import("f", bomb.as_bytes(), jupyterhub::read).expect_err("refused");
    assert!(problem.what.contains("more than 200 templates"), "{}", problem.what);
}

#[test]
fn values_become_a_template_per_profile_and_choice() {
    let (templates, settings) = import("v.yaml", VALUES.as_bytes(), jupyterhub::read).expect("imported");
    applied(&templates);
    let names: Vec<&str> = templates.iter().map(|template| template.metadata.name.as_str()).collect();
    assert_eq!(names, ["small", "by-size-one-large", "by-size-two-large"]);
    let [small, one, two] = &templates[..] else { panic!("{names:?}") };
    assert_eq!(small.spec.image, "registry.site.example/base:7");
    // K, M and G are powers of 1024 in JupyterHub.
    assert_eq!((small.spec.resources.cpu.0, small.spec.resources.memory.0), (500, 512 << 20));
    assert_eq!((one.spec.resources.cpu.0, one.spec.resources.memory.0), (2000, 8 << 30));
    assert_eq!((one.spec.image.as_str(), two.spec.image.as_str()), ("one:1", "two:1"));
    assert_eq!((&one.spec.groups, &small.spec.groups), (&vec!["staff".to_owned()], &Vec::new()));
    assert_eq!((small.spec.idle.after.0, small.spec.idle.max_busy.0, small.spec.home.size.0), (3600, 86_400, 20 << 30));
    let keys: Vec<&str> = refused(&settings).into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [
            "hub.config.KubeSpawner.privileged",
            "singleuser.storage.extraVolumeMounts",
            "singleuser.networkPolicy",
            "singleuser.extraContainers[0]",
            "singleuser.profileList[1].profile_options.size.choices.large.kubespawner_override.extra_resource_limits",
        ]
    );
    assert!(why(&settings, "singleuser.extraContainers[0]").contains("\"mounter\" is privileged"));
    let told = serde_json::to_string(&settings).expect("JSON");
    assert!(!told.contains("never-shown"), "a value of the file is shown");
}

#[test]
fn a_list_of_profiles_and_an_umbrella_chart_are_read_too() {
    let list = r#"[{"display_name": "One", "kubespawner_override": {"image": "one:1"}}]"#;
    let (templates, _) = import("p.json", list.as_bytes(), jupyterhub::read).expect("imported");
    assert_eq!(templates[0].spec.image, "one:1");
    let umbrella = "jupyterhub:\n  singleuser:\n    image: {name: one, tag: 1}\n";
    let (templates, settings) = import("u.yaml", umbrella.as_bytes(), jupyterhub::read).expect("imported");
    assert_eq!(templates[0].spec.image, "one:1");
    assert_eq!(settings[0].key, "jupyterhub.singleuser.image.name");
}

#[test]
fn a_program_is_not_run() {
    for (name, text) in [
        ("jupyterhub_config.py", ""),
        ("x", "c = get_config()\n"),
        ("x", "import os\n"),
        ("x", "c.KubeSpawner.image = 'a'\n"),
    ] {
        let problem = jupyterhub::refuse_program(name.as_ref(), text.as_bytes()).expect_err("refused");
        assert!(problem.what.contains("is a Python program, and is not run"));
        assert!(problem.remedy.contains("helm get values"));
    }
    jupyterhub::refuse_program("values.yaml".as_ref(), VALUES.as_bytes()).expect("no program");
}
