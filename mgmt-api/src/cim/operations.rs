//! The intrinsic operations of DSP0200 §5.3.

use std::sync::Arc;

use job_engine::error::NAMESPACE;
use job_engine::{Engine, Role};
use parking_lot::Mutex;

use super::arguments::Arguments;
use super::associations::{self, Filter};
use super::encode::{Encoder, Wanted, path_of};
use super::encode_class::{self, ClassWanted};
use super::enumerations::Enumerations;
use super::fault::{Fault, Status};
use super::indications::Indications;
use super::instances::{INTEROP, Space, View};
use super::modify;
use super::mof::Class;
use super::out::Out;
use super::path::ObjectPath;
use super::schema::Schema;
use super::value::{Instance, Raw};

/// What an operation answers.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Content of `IRETURNVALUE`; operations without one have none.
    pub(crate) returned: Option<String>,
    /// `PARAMVALUE`s.
    pub(crate) parameters: String,
}

impl Answer {
    fn returning(out: Out) -> Self {
        Self { returned: Some(out.finish()), parameters: String::new() }
    }
}

/// One call at work.
pub(crate) struct Work<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) schema: &'a Schema,
    pub(crate) view: View<'a>,
    pub(crate) encoder: Encoder<'a>,
    /// Who asks, as jobs remember it.
    pub(crate) client: &'a str,
    /// What he may do; the operation itself is allowed.
    pub(crate) role: Role,
    pub(crate) indications: &'a Indications,
    pub(crate) enumerations: &'a Mutex<Enumerations>,
    pub(crate) space: Space,
    /// In its canonical spelling.
    pub(crate) namespace: &'static str,
    /// Whether the client understands arrays of references: wbemcli dies of them.
    pub(crate) reference_arrays: bool,
}

/// Finds a namespace.
pub(crate) fn namespace(name: &str) -> Result<(Space, &'static str), Fault> {
    let name = name.trim_matches('/');
    if name.eq_ignore_ascii_case(NAMESPACE) {
        return Ok((Space::Storage, NAMESPACE));
    }
    let interop = INTEROP.iter().find(|own| own.eq_ignore_ascii_case(name));
    interop.map(|own| (Space::Interop, *own)).ok_or_else(|| {
        Fault::new(Status::InvalidNamespace, format!("there is no namespace {name}"))
    })
}

/// An instance with its path.
pub(crate) type Named = (ObjectPath, Instance);

impl Work<'_> {
    /// Does the operation `name`.
    pub(crate) fn run(&self, name: &str, all: &[(String, Raw)]) -> Result<Answer, Fault> {
        let with = |allowed: &[&str]| Arguments::new(all, allowed);
        match name.to_ascii_lowercase().as_str() {
            "getclass" => self.get_class(&with(&[
                "ClassName",
                "LocalOnly",
                "IncludeQualifiers",
                "IncludeClassOrigin",
                "PropertyList",
            ])?),
            "enumerateclasses" => self.enumerate_classes(&with(&[
                "ClassName",
                "DeepInheritance",
                "LocalOnly",
                "IncludeQualifiers",
                "IncludeClassOrigin",
            ])?),
            "enumerateclassnames" => {
                self.enumerate_class_names(&with(&["ClassName", "DeepInheritance"])?)
            }
            "getqualifier" => self.get_qualifier(&with(&["QualifierName"])?),
            "enumeratequalifiers" => self.enumerate_qualifiers(&with(&[])?),
            "getinstance" => self.get_instance(&with(&[
                "InstanceName",
                "LocalOnly",
                "IncludeQualifiers",
                "IncludeClassOrigin",
                "PropertyList",
            ])?),
            "enumerateinstances" => self.enumerate_instances(&with(&[
                "ClassName",
                "LocalOnly",
                "DeepInheritance",
                "IncludeQualifiers",
                "IncludeClassOrigin",
                "PropertyList",
            ])?),
            "enumerateinstancenames" => self.enumerate_instance_names(&with(&["ClassName"])?),
            "getproperty" => self.get_property(&with(&["InstanceName", "PropertyName"])?),
            "associators" | "associatornames" | "references" | "referencenames" => self.associated(
                name,
                &with(&[
                    "ObjectName",
                    "AssocClass",
                    "ResultClass",
                    "Role",
                    "ResultRole",
                    "IncludeQualifiers",
                    "IncludeClassOrigin",
                    "PropertyList",
                ])?,
            ),
            "createinstance" => {
                let path = modify::create_instance(self, &with(&["NewInstance"])?)?;
                let mut out = Out::default();
                self.encoder.instance_name(&mut out, &path);
                Ok(Answer::returning(out))
            }
            "modifyinstance" => {
                let known = &["ModifiedInstance", "IncludeQualifiers", "PropertyList"];
                modify::modify_instance(self, &with(known)?).map(|()| Answer::default())
            }
            "setproperty" => {
                let known = &["InstanceName", "PropertyName", "NewValue"];
                modify::set_property(self, &with(known)?).map(|()| Answer::default())
            }
            "deleteinstance" => {
                modify::delete_instance(self, &with(&["InstanceName"])?).map(|()| Answer::default())
            }
            pull if pull.starts_with("open") || pull.starts_with("pull") => self.pull(name, all),
            "closeenumeration" => self.close_enumeration(&with(&["EnumerationContext"])?),
            _ => Err(Fault::not_supported(format!("{name} is not supported"))),
        }
    }

    pub(crate) fn class(&self, name: &str) -> Result<&Arc<Class>, Fault> {
        let found = self.schema.class(name);
        found.ok_or_else(|| Fault::new(Status::InvalidClass, format!("there is no class {name}")))
    }

    fn get_class(&self, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let name = arguments.required_class("ClassName")?;
        let found = self.schema.class(name);
        let found = found.ok_or_else(|| Fault::not_found(format!("there is no class {name}")))?;
        let mut out = Out::default();
        encode_class::class(&mut out, self.schema, found, &class_wanted(arguments)?);
        Ok(Answer::returning(out))
    }

    fn enumerate_classes(&self, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let wanted = class_wanted(arguments)?;
        let mut out = Out::default();
        for class in self.classes(arguments)? {
            encode_class::class(&mut out, self.schema, &class, &wanted);
        }
        Ok(Answer::returning(out))
    }

    fn enumerate_class_names(&self, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let mut out = Out::default();
        for class in self.classes(arguments)? {
            out.leaf("CLASSNAME", &[("NAME", &class.name)], "");
        }
        Ok(Answer::returning(out))
    }

    fn classes(&self, arguments: &Arguments<'_>) -> Result<Vec<Arc<Class>>, Fault> {
        let parent = arguments.class("ClassName")?.filter(|name| !name.is_empty());
        if let Some(name) = parent {
            self.class(name)?;
        }
        Ok(self.schema.below(parent, arguments.flag("DeepInheritance", false)?))
    }

    fn get_qualifier(&self, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let name = arguments.required_text("QualifierName")?;
        let found = self.schema.qualifier(&name);
        let found =
            found.ok_or_else(|| Fault::not_found(format!("there is no qualifier {name}")))?;
        let mut out = Out::default();
        encode_class::declaration(&mut out, found);
        Ok(Answer::returning(out))
    }

    fn enumerate_qualifiers(&self, _: &Arguments<'_>) -> Result<Answer, Fault> {
        let mut out = Out::default();
        for declared in self.schema.qualifiers() {
            encode_class::declaration(&mut out, declared);
        }
        Ok(Answer::returning(out))
    }

    /// The instance that a parameter names.
    pub(crate) fn existing(&self, path: &ObjectPath) -> Result<Instance, Fault> {
        self.class(&path.class)?;
        let found = self.view.find(self.space, path);
        found.ok_or_else(|| Fault::not_found(format!("there is no instance {}", path.to_uri())))
    }

    fn get_instance(&self, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let instance = self.existing(arguments.path("InstanceName")?)?;
        let mut out = Out::default();
        self.encoder.instance(&mut out, &instance, &wanted(arguments)?);
        Ok(Answer::returning(out))
    }

    fn get_property(&self, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let instance = self.existing(arguments.path("InstanceName")?)?;
        let name = arguments.required_text("PropertyName")?;
        let class = self.class(&instance.class)?;
        let property = class.property(&name).ok_or_else(|| {
            Fault::new(Status::NoSuchProperty, format!("{} has no {name}", class.name))
        })?;
        let mut out = Out::default();
        if let Some(value) = instance.get(&property.name) {
            self.encoder.value(&mut out, value);
        }
        Ok(Answer::returning(out))
    }

    /// Instances of a class and of those below it.
    pub(crate) fn enumerate(&self, class: &str) -> Result<Vec<Named>, Fault> {
        let mut all = Vec::new();
        self.each(class, |path, one| all.push((path, one)))?;
        Ok(all)
    }

    /// The same one after the other: thousands of them take a lot of memory.
    pub(crate) fn each(
        &self,
        class: &str,
        mut found: impl FnMut(ObjectPath, Instance),
    ) -> Result<(), Fault> {
        self.class(class)?;
        for leaf in self.view.leaves(self.space, class) {
            let named = |one| found(path_of(&leaf, &one, self.namespace), one);
            self.view.each(&leaf.name, named);
        }
        Ok(())
    }

    /// With `DeepInheritance` off, only what the class that was asked for has itself.
    pub(crate) fn narrowed(&self, arguments: &Arguments<'_>, class: &str) -> Result<Wanted, Fault> {
        let mut wanted = wanted(arguments)?;
        if !arguments.flag("DeepInheritance", true)? {
            let own = self.class(class)?.properties.iter().map(|member| member.name.clone());
            let own: Vec<String> = own.filter(|name| wanted.has(name)).collect();
            wanted.properties = Some(own);
        }
        Ok(wanted)
    }

    fn enumerate_instances(&self, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let class = arguments.required_class("ClassName")?;
        let wanted = self.narrowed(arguments, class)?;
        let mut out = Out::default();
        self.each(class, |path, instance| {
            out.element("VALUE.NAMEDINSTANCE", &[], |out| {
                self.encoder.instance_name(out, &path);
                self.encoder.instance(out, &instance, &wanted);
            });
        })?;
        Ok(Answer::returning(out))
    }

    fn enumerate_instance_names(&self, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let mut out = Out::default();
        let class = arguments.required_class("ClassName")?;
        self.each(class, |path, _| self.encoder.instance_name(&mut out, &path))?;
        Ok(Answer::returning(out))
    }

    /// Associators, References and their names: which is said by the operation's name.
    fn associated(&self, name: &str, arguments: &Arguments<'_>) -> Result<Answer, Fault> {
        let source = arguments.path("ObjectName")?;
        let references = name.to_ascii_lowercase().starts_with("reference");
        let wanted = wanted(arguments)?;
        let mut out = Out::default();
        for (path, instance) in self.neighbourhood(source, references, arguments)? {
            if name.to_ascii_lowercase().ends_with("names") {
                out.element("OBJECTPATH", &[], |out| self.encoder.instance_path(out, &path));
            } else {
                out.element("VALUE.OBJECTWITHPATH", &[], |out| {
                    self.encoder.instance_path(out, &path);
                    self.encoder.instance(out, &instance, &wanted);
                });
            }
        }
        Ok(Answer::returning(out))
    }

    /// What an element is associated with, or the associations themselves.
    pub(crate) fn neighbourhood(
        &self,
        source: &ObjectPath,
        references: bool,
        arguments: &Arguments<'_>,
    ) -> Result<Vec<Named>, Fault> {
        let source_class = self.class(&source.class)?;
        let mut source = super::instances::named_keys(source_class, source);
        source.namespace.get_or_insert_with(|| self.namespace.to_owned());
        let (role, result_role) = (arguments.text("Role")?, arguments.text("ResultRole")?);
        let (role, result_role) = (role.as_deref(), result_role.as_deref());
        let result = arguments.class("ResultClass")?;
        let association = arguments.class("AssocClass")?;
        for class in [result, association].into_iter().flatten() {
            if self.schema.class(class).is_none() {
                // Clients ask for classes of profiles that are not here: then there is nothing.
                return Ok(Vec::new());
            }
        }
        if references {
            let filter = Filter { association: result, role, ..Filter::default() };
            let links = associations::references(&self.view, self.space, &source, &filter);
            let named = |link: Instance| {
                let class = self.schema.class(&link.class)?;
                Some((path_of(class, &link, self.namespace), link))
            };
            return Ok(links.into_iter().filter_map(named).collect());
        }
        let filter = Filter { association, result, role, result_role };
        let paths = associations::neighbours(&self.view, self.space, &source, &filter);
        let named = |path| Some((self.view.find(self.space, &path)?, path));
        Ok(paths.into_iter().filter_map(named).map(|(one, path)| (path, one)).collect())
    }
}

/// What of instances is wanted.
pub(crate) fn wanted(arguments: &Arguments<'_>) -> Result<Wanted, Fault> {
    let properties = arguments.names("PropertyList")?;
    Ok(Wanted { properties, origin: arguments.flag("IncludeClassOrigin", false)? })
}

fn class_wanted(arguments: &Arguments<'_>) -> Result<ClassWanted, Fault> {
    Ok(ClassWanted {
        local_only: arguments.flag("LocalOnly", true)?,
        qualifiers: arguments.flag("IncludeQualifiers", true)?,
        members: wanted(arguments)?,
    })
}
