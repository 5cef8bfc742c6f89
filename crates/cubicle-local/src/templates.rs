//! Templates: what may be offered on this machine.

use cubicle_core::level::EngineKind;
use cubicle_core::name::TemplateName;
use cubicle_core::problem::Problem;
use cubicle_core::template::Template;

use crate::images::{self, ImageSummary};
use crate::machine;
use crate::supervisor::Supervisor;

impl Supervisor {
    pub(crate) fn apply_template(&self, template: &Template) -> Result<(), Problem> {
        template.validate()?;
        self.can_provide(template)?;
        self.store.put_template(template)?;
        self.pool.look_again();
        Ok(())
    }

    /// Refuses what this machine cannot give: a level, more than it has, an image or data set
    /// that is not there. Answers the image.
    pub(crate) fn can_provide(&self, template: &Template) -> Result<ImageSummary, Problem> {
        let name = &template.metadata.name;
        let spec = &template.spec;
        if let Some(missing) = spec.level.missing_on(EngineKind::Local) {
            return Err(Problem::bad_input(
                format!("template \"{name}\": level {} {missing}", spec.level),
                "choose basic, standard or strict, or run this template on a Kubernetes cluster",
            ));
        }
        let memory = machine::memory();
        if spec.resources.memory.0 > memory {
            return Err(Problem::bad_input(
                format!(
                    "template \"{name}\": spec.resources.memory asks for {} and the machine has {} MiB",
                    spec.resources.memory,
                    memory >> 20
                ),
                "ask for less",
            ));
        }
        let processors = machine::processors();
        if spec.resources.cpu.0 > processors * 1000 {
            return Err(Problem::bad_input(
                format!(
                    "template \"{name}\": spec.resources.cpu asks for {} and the machine has {processors}",
                    spec.resources.cpu
                ),
                "ask for less",
            ));
        }
        let (_, total) = machine::space(self.layout.home())?;
        if spec.home.size.0 > total {
            return Err(Problem::bad_input(
                format!(
                    "template \"{name}\": spec.home.size asks for {} and the disk has {} MiB",
                    spec.home.size,
                    total >> 20
                ),
                "ask for less",
            ));
        }
        for dataset in &spec.datasets {
            images::dataset(&self.layout, &dataset.name)?;
        }
        images::find(&self.layout, &spec.image)
    }

    pub(crate) fn delete_template(&self, name: &TemplateName) -> Result<(), Problem> {
        if self.store.delete_template(name)? { Ok(()) } else { Err(no_template(name)) }
    }
}

pub(crate) fn no_template(name: &TemplateName) -> Problem {
    Problem::not_found(format!("there is no template \"{name}\""), "list the known ones with `cubicle template list`")
}
