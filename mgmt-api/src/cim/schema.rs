//! The classes, with what they inherit.

use std::collections::HashMap;
use std::sync::Arc;

use super::encode::property_tag;
use super::mof::{self, Class, Literal, Member, Method, Qualifier, QualifierType, Written};
use super::value::CimType;

/// The declarations of everything that is served; superclasses before their subclasses.
const SOURCES: [(&str, &str); 10] = [
    ("lund.mof", include_str!("../../mof/lund.mof")),
    ("profiles.mof", include_str!("../../mof/profiles.mof")),
    ("masking.mof", include_str!("../../mof/masking.mof")),
    ("iscsi.mof", include_str!("../../mof/iscsi.mof")),
    ("replication.mof", include_str!("../../mof/replication.mof")),
    ("settings.mof", include_str!("../../mof/settings.mof")),
    ("network.mof", include_str!("../../mof/network.mof")),
    ("security.mof", include_str!("../../mof/security.mof")),
    ("statistics.mof", include_str!("../../mof/statistics.mof")),
    ("indication_service.mof", include_str!("../../mof/indication_service.mof")),
];

/// All classes.
#[derive(Debug)]
pub(crate) struct Schema {
    qualifiers: Vec<QualifierType>,
    /// Superclasses before their subclasses.
    classes: Vec<Arc<Class>>,
    /// By name in lower case.
    index: HashMap<String, Arc<Class>>,
}

impl Schema {
    /// The product's classes.
    pub(crate) fn load() -> Result<Self, String> {
        let mut schema =
            Self { qualifiers: Vec::new(), classes: Vec::new(), index: HashMap::new() };
        for (name, text) in SOURCES {
            schema.add(text).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(schema)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let mof::Declarations { mut qualifiers, classes } = mof::parse(text)?;
        self.qualifiers.append(&mut qualifiers);
        for class in classes {
            let mut class = self.resolve(class)?;
            class.written = class.properties.iter().map(written).collect();
            let class = Arc::new(class);
            let key = class.name.to_ascii_lowercase();
            if self.index.insert(key, class.clone()).is_some() {
                return Err(format!("the class {} is declared twice", class.name));
            }
            self.classes.push(class);
        }
        Ok(())
    }

    pub(crate) fn qualifiers(&self) -> &[QualifierType] {
        &self.qualifiers
    }

    pub(crate) fn qualifier(&self, name: &str) -> Option<&QualifierType> {
        self.qualifiers.iter().find(|own| own.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn class(&self, name: &str) -> Option<&Arc<Class>> {
        self.index.get(&name.to_ascii_lowercase())
    }

    /// Whether `name` is `ancestor` or inherits from it.
    pub(crate) fn is_a(&self, name: &str, ancestor: &str) -> bool {
        let mut current = self.class(name);
        while let Some(class) = current {
            if class.name.eq_ignore_ascii_case(ancestor) {
                return true;
            }
            current = class.superclass.as_ref().and_then(|above| self.class(above));
        }
        false
    }

    /// Classes below `parent`, or all roots: the children, or everything with `deep`.
    pub(crate) fn below(&self, parent: Option<&str>, deep: bool) -> Vec<Arc<Class>> {
        let wanted = |class: &&Arc<Class>| match (parent, deep) {
            (None, true) => true,
            (None, false) => class.superclass.is_none(),
            (Some(parent), true) => {
                !class.name.eq_ignore_ascii_case(parent) && self.is_a(&class.name, parent)
            }
            (Some(parent), false) => {
                class.superclass.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(parent))
            }
        };
        self.classes.iter().filter(wanted).cloned().collect()
    }

    /// Adds what is inherited.
    fn resolve(&self, mut class: Class) -> Result<Class, String> {
        let name = class.name.clone();
        self.check_qualifiers(&name, &class.qualifiers)?;
        for property in &class.properties {
            self.check_qualifiers(&name, &property.qualifiers)?;
        }
        let Some(above) = &class.superclass else { return Ok(class) };
        let parent = self.class(above).ok_or_else(|| {
            format!("the superclass of {name}, {above}, is not declared before it")
        })?;
        self.inherit_qualifiers(&mut class.qualifiers, &parent.qualifiers);

        let mut own = std::mem::take(&mut class.properties);
        for inherited in &parent.properties {
            let overriding =
                take(&mut own, |p: &Member| p.name.eq_ignore_ascii_case(&inherited.name));
            class.properties.push(self.override_member(inherited, overriding));
        }
        class.properties.append(&mut own);

        let mut own = std::mem::take(&mut class.methods);
        for inherited in &parent.methods {
            let overriding =
                take(&mut own, |m: &Method| m.name.eq_ignore_ascii_case(&inherited.name));
            let mut method = overriding.unwrap_or_else(|| Method {
                propagated: true,
                qualifiers: Vec::new(),
                ..inherited.clone()
            });
            self.inherit_qualifiers(&mut method.qualifiers, &inherited.qualifiers);
            class.methods.push(method);
        }
        class.methods.append(&mut own);
        Ok(class)
    }

    fn override_member(&self, inherited: &Member, overriding: Option<Member>) -> Member {
        let mut member = overriding.unwrap_or_else(|| Member {
            propagated: true,
            qualifiers: Vec::new(),
            ..inherited.clone()
        });
        if member.default == Literal::Null {
            member.default = inherited.default.clone();
        }
        self.inherit_qualifiers(&mut member.qualifiers, &inherited.qualifiers);
        member
    }

    fn inherit_qualifiers(&self, own: &mut Vec<Qualifier>, above: &[Qualifier]) {
        for qualifier in above {
            let restricted = self
                .qualifier(&qualifier.name)
                .is_some_and(|declared| declared.flavors.iter().any(|f| f == "restricted"));
            if !restricted && !own.iter().any(|q| q.name.eq_ignore_ascii_case(&qualifier.name)) {
                own.push(Qualifier { propagated: true, ..qualifier.clone() });
            }
        }
    }

    fn check_qualifiers(&self, class: &str, qualifiers: &[Qualifier]) -> Result<(), String> {
        match qualifiers.iter().find(|used| self.qualifier(&used.name).is_none()) {
            Some(unknown) => Err(format!("{class}: the qualifier {} is unknown", unknown.name)),
            None => Ok(()),
        }
    }
}

fn written(member: &Member) -> Written {
    let (element, without) = property_tag(member, false);
    let open = [without, property_tag(member, true).1];
    Written { element, open, key: has(&member.qualifiers, "Key") }
}

fn take<T>(items: &mut Vec<T>, wanted: impl Fn(&T) -> bool) -> Option<T> {
    items.iter().position(wanted).map(|index| items.remove(index))
}

/// Whether a boolean qualifier is there and true.
pub(crate) fn has(qualifiers: &[Qualifier], name: &str) -> bool {
    flag(qualifiers, name) == Some(true)
}

fn flag(qualifiers: &[Qualifier], name: &str) -> Option<bool> {
    let found = qualifiers.iter().find(|own| own.name.eq_ignore_ascii_case(name))?;
    if let Literal::Bool(value) = found.value { Some(value) } else { None }
}

impl Class {
    pub(crate) fn property(&self, name: &str) -> Option<&Member> {
        self.properties.iter().find(|own| own.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn method(&self, name: &str) -> Option<&Method> {
        self.methods.iter().find(|own| own.name.eq_ignore_ascii_case(name))
    }

    /// In the order of their declaration.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Member> {
        let all = self.properties.iter().zip(&self.written);
        all.filter(|(_, written)| written.key).map(|(property, _)| property)
    }
}

impl Member {
    /// The attribute that says its type.
    pub(crate) fn type_attribute(&self) -> (&'static str, &str) {
        if let CimType::Reference(class) = &self.cim_type {
            ("REFERENCECLASS", class)
        } else {
            ("TYPE", self.cim_type.name())
        }
    }

    /// A parameter's `In`, which is true unless it says otherwise.
    pub(crate) fn is_input(&self) -> bool {
        flag(&self.qualifiers, "In") != Some(false)
    }

    /// A string that holds an instance or a class, as `EmbeddedObject` says it.
    pub(crate) fn embedded(&self) -> Option<&'static str> {
        let named = |name: &str| self.qualifiers.iter().any(|q| q.name.eq_ignore_ascii_case(name));
        if self.cim_type != CimType::String {
            None
        } else if named("EmbeddedInstance") {
            Some("instance")
        } else if has(&self.qualifiers, "EmbeddedObject") {
            Some("object")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Schema {
        fn parse(text: &str) -> Result<Self, String> {
            let mut schema =
                Self { qualifiers: Vec::new(), classes: Vec::new(), index: HashMap::new() };
            schema.add(text).map(|()| schema)
        }
    }

    #[test]
    fn a_job_is_a_job() {
        let schema = Schema::load().unwrap();
        assert!(schema.is_a("msiscsitarget_concretejob", "CIM_Job"));
        assert!(!schema.is_a("CIM_Job", "CIM_ConcreteJob"));
        let job = schema.class("MSISCSITARGET_ConcreteJob").unwrap();
        assert_eq!(job.keys().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["InstanceID"]);
        let error = &job.method("geterror").unwrap().parameters[0];
        assert_eq!(error.embedded(), Some("instance"));
        let removal = job.property("TimeBeforeRemoval").unwrap();
        assert!(removal.propagated && has(&removal.qualifiers, "Write"));
        assert_eq!(removal.origin, "CIM_ConcreteJob");
        let link = schema.class("MSISCSITARGET_AffectedJobElement").unwrap();
        assert!(has(&link.qualifiers, "Association"));
    }

    #[test]
    fn what_is_restricted_is_not_inherited() {
        let text = "Qualifier Abstract : boolean = false, Flavor(Restricted);\
                    Qualifier Key : boolean = false;\
                    Qualifier MaxLen : uint32;\
                    [Abstract] class A { [Key, MaxLen (3)] string B = \"x\"; string C; };\
                    class D : A { [MaxLen (2)] string b; };";
        let schema = Schema::parse(text).unwrap();
        let class = schema.class("d").unwrap();
        assert!(!has(&class.qualifiers, "Abstract"));
        assert_eq!(class.properties.len(), 2);
        let b = class.property("B").unwrap();
        assert!(has(&b.qualifiers, "Key"));
        assert_eq!(b.qualifiers[0].value, Literal::Int(2));
        assert_eq!(b.default, Literal::Text("x".to_owned()));
        assert!(!b.propagated && class.property("C").unwrap().propagated);
    }

    #[test]
    fn a_schema_with_holes_is_refused() {
        assert!(Schema::parse("class A : B {};").unwrap_err().contains('B'));
        assert!(Schema::parse("[Nope] class A {};").unwrap_err().contains("Nope"));
        assert!(Schema::parse("class A {}; class a {};").unwrap_err().contains("twice"));
    }
}
