//! What the site's document says of how much people may have at once, and what it costs.

use cubicle_core::document::{Node, Value};
use cubicle_core::quantity::{Bytes, MilliCpu};

use super::settings::Reader;
use crate::accounting::Prices;
use crate::caps::{Amounts, Caps, GroupCaps};

impl Reader<'_> {
    /// Reads the mapping under `limits`.
    pub(super) fn caps(&mut self, node: &Node) -> Caps {
        let mut caps = Caps::default();
        for (key, _, value) in self.entries(node, "limits", &["everyone", "groups"]) {
            match key.as_str() {
                "everyone" => caps.everyone = self.amounts(key, value),
                "groups" => caps.groups = self.groups(value),
                _ => {}
            }
        }
        caps
    }

    fn groups(&mut self, node: &Node) -> Vec<GroupCaps> {
        let Value::List(items) = &node.value else {
            self.wrong(node.line, "groups must be a list");
            return Vec::new();
        };
        let mut groups: Vec<GroupCaps> = Vec::new();
        for item in items {
            let mut group = GroupCaps::default();
            for (key, _, value) in self.entries(item, "a group", &["name", "each", "together"]) {
                match key.as_str() {
                    "name" => group.name = self.text(key, value).unwrap_or_default(),
                    "each" => group.each = self.amounts(key, value),
                    "together" => group.together = self.amounts(key, value),
                    _ => {}
                }
            }
            if group.name.is_empty() {
                self.wrong(item.line, "a group needs name");
            } else if groups.iter().any(|other| other.name == group.name) {
                self.wrong(item.line, format!("two groups are named \"{}\"", group.name.escape_default()));
            }
            groups.push(group);
        }
        groups
    }

    fn amounts(&mut self, what: &str, node: &Node) -> Amounts {
        let mut amounts = Amounts::default();
        for (key, line, value) in self.entries(node, what, &["workspaces", "cpu", "memory", "storage"]) {
            // A number is as good as text here: `cpu: 4`.
            let Value::Text { text, .. } = &value.value else {
                self.wrong(*line, format!("{key} must be an amount"));
                continue;
            };
            match key.as_str() {
                "workspaces" => match text.parse() {
                    Ok(count) => amounts.workspaces = Some(count),
                    Err(_) => self.wrong(*line, "workspaces must be a whole number"),
                },
                "cpu" => amounts.cpu = self.amount(key, *line, MilliCpu::parse(text)),
                "memory" => amounts.memory = self.amount(key, *line, Bytes::parse(text)),
                "storage" => amounts.storage = self.amount(key, *line, Bytes::parse(text)),
                _ => {}
            }
        }
        amounts
    }

    /// Reads the mapping under `prices`.
    pub(super) fn prices(&mut self, node: &Node) -> Prices {
        let mut prices = Prices::default();
        for (key, line, value) in self.entries(node, "prices", &["currency", "cpuHour", "memoryHour", "storageHour"]) {
            let price = match &value.value {
                Value::Text { text, .. } => text.parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0),
                _ => None,
            };
            let slot = match key.as_str() {
                "currency" => {
                    prices.currency = self.text(key, value).unwrap_or_default();
                    continue;
                }
                "cpuHour" => &mut prices.cpu_hour,
                "memoryHour" => &mut prices.memory_hour,
                "storageHour" => &mut prices.storage_hour,
                _ => continue,
            };
            match price {
                Some(price) => *slot = price,
                None => self.wrong(*line, format!("{key} must be a number, 0 or more")),
            }
        }
        if prices.currency.is_empty() && matches!(node.value, Value::Map(_)) {
            self.wrong(node.line, "prices needs currency");
        }
        prices
    }

    fn amount<T>(&mut self, key: &str, line: usize, given: Result<T, cubicle_core::problem::Problem>) -> Option<T> {
        given.map_err(|problem| self.wrong(line, format!("{key}: {}; {}", problem.what, problem.remedy))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::read;
    use super::*;

    #[test]
    fn limits_are_read() {
        let caps = read(
            "limits:\n  everyone: {workspaces: 3, cpu: 4, memory: 16Gi}\n  groups:\n  - name: class\n    \
             each: {workspaces: 1}\n    together: {cpu: 500m, storage: 1Ti}\n",
        )
        .expect("valid")
        .caps;
        assert_eq!((caps.everyone.workspaces, caps.everyone.cpu), (Some(3), Some(MilliCpu(4000))));
        assert_eq!((caps.everyone.memory, caps.everyone.storage), (Some(Bytes(16 << 30)), None));
        assert_eq!((caps.groups[0].each.workspaces, caps.groups[0].each.cpu), (Some(1), None));
        assert_eq!(caps.groups[0].together.storage, Some(Bytes(1 << 40)));
        assert!(read("").expect("valid").caps.is_empty());
    }

    #[test]
    fn prices_are_read() {
        let prices = read("prices: {currency: EUR, cpuHour: 0.04, memoryHour: 1}\n").expect("valid").prices;
        assert_eq!((prices.currency.as_str(), prices.storage_hour), ("EUR", 0.0));
        assert!((prices.cpu_hour - 0.04).abs() < 1e-9 && (prices.memory_hour - 1.0).abs() < 1e-9);
        let problem = read("prices:\n  cpuHour: -1\n  memoryHour: NaN\n  hour: 1\n").expect_err("refused");
        for expected in [":2: cpuHour must", ":3: memoryHour must", ":4: prices has no key", "prices needs currency"] {
            assert!(problem.what.contains(expected), "{expected} in {}", problem.what);
        }
    }

    #[test]
    fn every_mistake_has_its_line() {
        let problem = read(
            "limits:\n  everyone: {workspaces: many, gpu: 1}\n  groups:\n  - each: {memory: 3 elephants}\n  \
             - name: class\n  - name: class\n    each: {cpu: [1]}\n",
        )
        .expect_err("refused");
        for expected in [
            ":2: workspaces must be a whole number",
            ":2: everyone has no key \"gpu\"",
            ":4: memory: ",
            ":4: a group needs name",
            ":6: two groups are named \"class\"",
            ":7: cpu must be an amount",
        ] {
            assert!(problem.what.contains(expected), "{expected} in {}", problem.what);
        }
    }
}
