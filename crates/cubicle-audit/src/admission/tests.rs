use serde_json::json;

use super::*;

fn policy(spec: &Value) -> Value {
    let mut whole = json!({
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]},
        ]},
    });
    if let (Some(whole), Some(spec)) = (whole.as_object_mut(), spec.as_object()) {
        whole.extend(spec.clone());
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
           "metadata": {"name": "p"}, "spec": whole})
}

fn binding(spec: &Value) -> Value {
    let mut whole = json!({"policyName": "p", "validationActions": ["Deny"]});
    if let (Some(whole), Some(spec)) = (whole.as_object_mut(), spec.as_object()) {
        whole.extend(spec.clone());
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
           "metadata": {"name": "b"}, "spec": whole})
}

fn pod() -> Value {
    let container = json!({"name": "c", "image": "example.test/i:1", "securityContext": {"privileged": true}});
    let pod = json!({"metadata": {"labels": {"a/b": "c"}}, "spec": {"containers": [container], "hostNetwork": false}});
    admitted_form(&pod, ("n", "w"), TokenVolume::Mounted, &Default::default())
}

fn asks(objects: &[Value], pod: &Value) -> Answer {
    let labels = BTreeMap::from([("team".to_owned(), "t".to_owned())]);
    let admission = Admission::new(&Snapshot::from_json("f", objects));
    admission.asks(&Asked {
        object: pod,
        kind: "Pod",
        resource: "pods",
        namespace: "n",
        namespace_labels: Some(&labels),
    })
}

/// What a policy with one expression says, bound to everything.
fn says(expression: &str) -> Answer {
    let spec = json!({"validations": [{"expression": expression, "message": "no"}]});
    asks(&[policy(&spec), binding(&json!({}))], &pod())
}

fn refuses(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(_))
}

fn admits(answer: &Answer) -> bool {
    matches!(answer, Answer::Admitted { .. })
}

#[test]
fn expressions_are_evaluated_on_the_pod_as_admission_sees_it() {
    for expression in [
        "object.spec.containers.all(c, !has(c.securityContext.privileged) || !c.securityContext.privileged)",
        "object.spec.containers.all(c, c.?securityContext.?privileged.orValue(false) == false)",
        "object.spec.containers.all(c, c.image.matches('@sha256:[0-9a-f]{64}$'))",
        "!object.spec.volumes.exists(v, has(v.projected))",
        "object.spec.containers.exists(c, has(c.resources.limits))",
        "object.metadata.labels['a/b'] == 'd'",
        "has(object.spec.hostNetwork)",
        "request.namespace == 'other'",
        "namespaceObject.metadata.labels.team == 'other'",
        "oldObject != null",
        "params != null",
    ] {
        assert!(refuses(&says(expression)), "{expression}: {:?}", says(expression));
    }
    for expression in [
        "object.spec.restartPolicy == 'Always' && object.spec.serviceAccountName == 'default'",
        "object.spec.containers.all(c, c.imagePullPolicy == 'IfNotPresent')",
        "request.operation == 'CREATE' && request.resource.resource == 'pods'",
        "has(object.spec.nothing) || object.metadata.name == 'w'",
        // An operand without a value does not matter where the other decides.
        "request.userInfo.username == 'x' || true",
    ] {
        assert!(admits(&says(expression)), "{expression}: {:?}", says(expression));
    }
}

#[test]
fn what_is_not_evaluated_is_never_an_answer() {
    for expression in [
        "quantity('1Gi').isLessThan(quantity('2Gi'))",
        "object.spec.nothing == 1",
        "object.metadata.name",
        "has(variables.nothing)",
        "not an expression",
        "'",
        "",
        &format!("1{} == 1", "+1".repeat(5_000)),
        &format!("{}true{}", "(".repeat(5_000), ")".repeat(5_000)),
        &format!("{}true", "!".repeat(5_000)),
        &format!("object.spec.x{}", "[0]".repeat(5_000)),
        "[1,2,3,4,5,6,7,8].all(a, [1,2,3,4,5,6,7,8].all(b, [1,2,3,4,5,6,7,8].all(c, [1,2,3,4,5,6,7,8].all(d, [1,2,3,4,5,6,7,8].all(e, [1,2,3,4,5,6,7,8].all(f, [1,2,3,4,5,6,7,8].all(g, true)))))))",
    ] {
        let answer = says(expression);
        assert!(matches!(answer, Answer::Unknown(_)), "{expression:.60}: {answer:?}");
    }
    for expression in [
        "request.userInfo.username == 'x'",
        "has(request.userInfo)",
        "request.?userInfo.hasValue()",
        "'g' in request.userInfo.groups",
        "authorizer.group('').resource('pods').namespace('n').check('create').allowed()",
    ] {
        let answer = says(expression);
        assert!(matches!(answer, Answer::DependsOnRequester(_)), "{expression}: {answer:?}");
    }
}

#[test]
fn only_policies_in_force_about_the_pod_are_asked() {
    let spec = json!({"validations": [{"expression": "false"}]});
    let with = |constraints: Value, bound: Value| {
        let mut policy = policy(&spec);
        for (key, value) in constraints.as_object().into_iter().flatten() {
            policy["spec"]["matchConstraints"][key] = value.clone();
        }
        asks(&[policy, binding(&bound)], &pod())
    };
    let rule = |key: &str, value: Value| {
        let mut rule =
            json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
        rule[key] = value;
        json!({"resourceRules": [rule]})
    };
    let nothing = || json!({});
    for constraints in [
        nothing(),
        rule("resources", json!(["*"])),
        rule("resources", json!(["pods/*"])),
        rule("operations", json!(["*"])),
        rule("scope", json!("Namespaced")),
        rule("resourceNames", json!(["w"])),
        json!({"objectSelector": {"matchLabels": {"a/b": "c"}}}),
        json!({"namespaceSelector": {"matchLabels": {"team": "t", "kubernetes.io/metadata.name": "n"}}}),
    ] {
        assert!(refuses(&with(constraints.clone(), nothing())), "{constraints}");
    }
    for constraints in [
        rule("resources", json!(["pods/exec"])),
        rule("apiGroups", json!(["apps"])),
        rule("operations", json!(["UPDATE"])),
        rule("scope", json!("Cluster")),
        rule("resourceNames", json!(["other"])),
        json!({"resourceRules": []}),
        json!({"objectSelector": {"matchLabels": {"a/b": "d"}}}),
        json!({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "Sideways"}]}}),
        json!({"excludeResourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["pods"]}]}),
    ] {
        assert_eq!(with(constraints.clone(), nothing()), Answer::NotAsked, "{constraints}");
    }
    for bound in [
        json!({"validationActions": ["Warn", "Audit"]}),
        json!({"policyName": "absent"}),
        json!({"matchResources": {"namespaceSelector": {"matchLabels": {"team": "u"}}}}),
    ] {
        assert_eq!(with(nothing(), bound.clone()), Answer::NotAsked, "{bound}");
    }
}

#[test]
fn conditions_variables_and_parameters_are_those_of_the_policy() {
    let deny = |more: Value| {
        let mut spec = json!({"validations": [{"expression": "false"}]});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        asks(&[policy(&spec), binding(&json!({}))], &pod())
    };
    let condition = |expression: &str| deny(json!({"matchConditions": [{"name": "c", "expression": expression}]}));
    assert!(refuses(&condition("object.metadata.name == 'w'")));
    assert!(admits(&condition("object.metadata.name == 'x'")));
    assert!(matches!(condition("quantity('1') == quantity('1')"), Answer::Unknown(_)));
    assert!(matches!(condition("request.userInfo.username != 'x'"), Answer::DependsOnRequester(_)));
    let variable = |expression: &str, validation: &str| {
        deny(
            json!({"variables": [{"name": "v", "expression": expression}], "validations": [{"expression": validation}]}),
        )
    };
    assert!(refuses(&variable("object.spec.containers", "variables.v.size() > 1")));
    assert!(admits(&variable("object.spec.containers", "variables.v.size() == 1")));
    assert!(matches!(variable("request.userInfo.username", "variables.v == 'x'"), Answer::DependsOnRequester(_)));
    assert!(matches!(variable("quantity('1')", "variables.v == quantity('1')"), Answer::Unknown(_)));
    assert!(admits(&variable("quantity('1')", "true")), "a variable that is not used does not matter");
    let parameter = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "q", "namespace": "n"}, "data": {"a": "b"}});
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                      "validations": [{"expression": "params.data.a == 'c'"}]});
    let bound =
        |reference: Value| asks(&[policy(&spec), binding(&json!({"paramRef": reference})), parameter.clone()], &pod());
    assert!(refuses(&bound(json!({"name": "q", "namespace": "n", "parameterNotFoundAction": "Deny"}))));
    assert!(refuses(&bound(json!({"selector": {}, "parameterNotFoundAction": "Deny"}))));
    assert!(matches!(bound(json!({"name": "absent", "parameterNotFoundAction": "Deny"})), Answer::Unknown(_)));
}

#[test]
fn a_refusal_outweighs_doubt_and_is_none_where_the_pod_may_be_changed_first() {
    let refusing = policy(
        &json!({"validations": [{"expression": "object.spec.nothing == 1"}, {"expression": "false", "message": "no"}]}),
    );
    let answer = asks(&[refusing.clone(), binding(&json!({}))], &pod());
    let Answer::Refused(refusal) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal.message, "no");
    assert!(
        refusal.policy.contains("ValidatingAdmissionPolicy p (f") && refusal.policy.ends_with("in force by binding b")
    );
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                         "metadata": {"name": "m"}, "webhooks": []});
    assert!(matches!(asks(&[refusing, binding(&json!({})), webhook], &pod()), Answer::Unknown(_)));
}
