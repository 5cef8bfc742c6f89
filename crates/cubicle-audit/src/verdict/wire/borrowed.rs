//! Services and fronts of one namespace that lead to another's pods.

use super::Wire;
use crate::network::cluster::NamespaceId;
use crate::network::front::Backend;
use crate::network::special;
use crate::network::{End, Engine};
use crate::snapshot::ObjectId;

/// Something of a namespace that leads out of it.
#[derive(Debug, Clone)]
pub(crate) struct Borrowed {
    pub(crate) object: ObjectId,
    /// Line and column.
    pub(crate) place: (u32, u32),
    /// What it lets a workspace do.
    pub(crate) what: String,
    /// Whether it is known whose address it is.
    pub(crate) certain: bool,
    /// Whether it is a list of addresses.
    pub(crate) is_list: bool,
}

impl Wire {
    /// Addresses behind services, and backends of Ingresses and routes, that are not this
    /// namespace's own.
    pub(crate) fn borrowed(&self, namespace: &str) -> Vec<Borrowed> {
        let engine = self.engine.borrow();
        let cluster = engine.cluster();
        let Some(namespace) = cluster.find_namespace(namespace) else { return Vec::new() };
        let mut found = Vec::new();
        for service in cluster.services.iter().filter(|service| service.namespace == namespace) {
            for endpoint in &service.endpoints {
                let add = |what: String, certain: bool| Borrowed {
                    object: endpoint.object,
                    place: endpoint.place,
                    what: format!("lead connections to service {} to {what}", service.name),
                    certain,
                    is_list: true,
                };
                let pods: Vec<u32> = engine.pods_at(endpoint.address).collect();
                let foreign = pods.iter().find(|pod| cluster.pods[**pod as usize].namespace != namespace);
                if let Some(pod) = foreign {
                    let title = engine.title_of(End::Pod(*pod));
                    found.push(add(format!("pod {title} of another namespace, at {}", endpoint.address), true));
                } else if engine.is_node(endpoint.address) {
                    found.push(add(format!("the node at {}", endpoint.address), true));
                } else if let (true, Some(special)) = (pods.is_empty(), special::of(endpoint.address)) {
                    let is_range =
                        special.block.parse::<ipnet::IpNet>().is_ok_and(|block| block.addr() != block.broadcast());
                    let what = match is_range {
                        true => format!("{}, which may be anyone's ({})", endpoint.address, special.name),
                        false => format!("{}: {}", endpoint.address, special.name),
                    };
                    found.push(add(what, !is_range));
                }
            }
        }
        for front in cluster.fronts.iter().filter(|front| front.namespace == namespace) {
            for backend in &front.backends {
                if let Some(what) = foreign_backend(&engine, namespace, backend) {
                    let what = format!("be led by {} {} to {what}", front.kind, front.name);
                    found.push(Borrowed {
                        object: front.object,
                        place: backend.place,
                        what,
                        certain: true,
                        is_list: false,
                    });
                }
            }
        }
        found
    }
}

fn foreign_backend(engine: &Engine, namespace: NamespaceId, backend: &Backend) -> Option<String> {
    let cluster = engine.cluster();
    let service = engine.stands_for(cluster.find_service(backend.namespace, &backend.service)?).ok()?;
    let service = cluster.services.get(service as usize)?;
    if service.namespace != namespace {
        let name = cluster.namespace_name(service.namespace);
        return Some(format!("service {name}/{}, which is another namespace's", service.name));
    }
    let ends = service.ports.iter().flat_map(|port| engine.backends(service, port));
    let foreign = ends.into_iter().find_map(|(end, _)| match end {
        End::Pod(pod) if cluster.pods[pod as usize].namespace != namespace => Some(engine.title_of(end)),
        _ => None,
    })?;
    Some(format!("pod {foreign} of another namespace, behind service {}", service.name))
}
