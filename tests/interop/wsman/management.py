"""What the tests do with pypsrp: its client sends the envelopes, this writes and reads bodies."""

import time
import urllib.parse
import xml.etree.ElementTree as ET

from pypsrp.wsman import NAMESPACES, SelectorSet, WSMan, WSManAction

NAMESPACE = "root/cimv2/storage/iscsitarget"
DMTF = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
VENDOR = "http://schemas.microsoft.com/wbem/wscim/1/cim-schema/2/"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
SELECTORS = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter"
ASSOCIATIONS = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter"
BINDING = "{http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd}"
S, WSA, WSMAN_, WSEN, WST, XSI, CIM = (
    "{%s}" % NAMESPACES[name] for name in ("s", "wsa", "wsman", "wsen", "wst", "xsi", "cim"))
RELEASE = "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Release"
TERMINAL = ("7", "8", "9", "10")
MIB = 1 << 20


class Reference:
    """An endpoint reference."""

    def __init__(self, uri, **selectors):
        self.uri, self.selectors = uri, selectors

    @classmethod
    def read(cls, element):
        parameters = element.find(f"{WSA}ReferenceParameters")
        assert element.find(f"{WSA}Address") is not None
        reference = cls(parameters.findtext(f"{WSMAN_}ResourceURI"))
        for selector in parameters.findall(f"{WSMAN_}SelectorSet/{WSMAN_}Selector"):
            inner = selector.find(f"{WSA}EndpointReference")
            value = selector.text or "" if inner is None else cls.read(inner)
            reference.selectors[selector.get("Name")] = value
        return reference

    def write(self, element):
        ET.SubElement(element, f"{WSA}Address").text = "http://localhost/wsman"
        parameters = ET.SubElement(element, f"{WSA}ReferenceParameters")
        ET.SubElement(parameters, f"{WSMAN_}ResourceURI").text = self.uri
        chosen = ET.SubElement(parameters, f"{WSMAN_}SelectorSet")
        for name, value in self.selectors.items():
            selector = ET.SubElement(chosen, f"{WSMAN_}Selector", Name=name)
            if isinstance(value, Reference):
                value.write(ET.SubElement(selector, f"{WSA}EndpointReference"))
            else:
                selector.text = value
        return element

    def __eq__(self, other):
        return (self.uri, self.selectors) == (other.uri, other.selectors)

    def __repr__(self):
        return f"Reference({self.uri}, {self.selectors})"


class Instance(dict):
    """Properties by name: text, a list, a reference, an instance, or None."""

    def __init__(self, element):
        super().__init__()
        self.element = element
        self.uri, self.name = element.tag[1:].split("}")
        for child in element:
            name = child.tag.split("}")[1]
            assert child.tag == f"{{{child.tag[1:].split('}')[0]}}}{name}"
            value = read_value(child)
            if name in self:
                before = self[name]
                self[name] = (before if isinstance(before, list) else [before]) + [value]
            else:
                self[name] = value

    def list(self, name):
        value = self.get(name, [])
        return value if isinstance(value, list) else [value]


def read_value(element):
    if element.get(f"{XSI}nil") == "true":
        return None
    if element.find(f"{WSA}ReferenceParameters") is not None:
        return Reference.read(element)
    if element.get(f"{XSI}type", "").endswith("_Type"):
        return Instance(element)
    if len(element):
        assert element[0].tag.startswith(CIM), element[0].tag
        return element[0].text
    return element.text or ""


class Client:
    def __init__(self, server, user, password, prefix=DMTF, **more):
        address = urllib.parse.urlsplit(server)
        self.wsman = WSMan(address.hostname, port=address.port, username=user, password=password, ssl=False,
                           auth="basic", encryption="never", **more)
        self.prefix = prefix

    def uri(self, name):
        return self.prefix + name

    @staticmethod
    def selected(reference):
        chosen = SelectorSet()
        for name, value in reference.selectors.items():
            chosen.add_option(name, value)
        return chosen

    def get(self, reference):
        [element] = self.wsman.get(reference.uri, selector_set=self.selected(reference))
        return Instance(element)

    def put(self, reference, name, **properties):
        body = ET.Element(f"{{{reference.uri}}}{name}")
        write_values(body, reference.uri, properties)
        [element] = self.wsman.put(reference.uri, body, selector_set=self.selected(reference))
        return Instance(element)

    def create(self, uri, namespace, **properties):
        body = ET.Element(f"{{{uri}}}{uri.rsplit('/', 1)[1]}")
        write_values(body, uri, properties)
        chosen = SelectorSet()
        chosen.add_option("__cimnamespace", namespace)
        [element] = self.wsman.create(uri, body, selector_set=chosen)
        assert element.tag == f"{WST}ResourceCreated"
        return Reference.read(element)

    def delete(self, reference):
        answer = self.wsman.delete(reference.uri, selector_set=self.selected(reference))
        assert len(answer) == 0

    def invoke(self, reference, method, **parameters):
        """Return value and output parameters."""
        body = ET.Element(f"{{{reference.uri}}}{method}_INPUT")
        write_values(body, reference.uri, parameters)
        answer = self.wsman.invoke(f"{reference.uri}/{method}", reference.uri, body,
                                   selector_set=self.selected(reference))
        assert answer.findtext(f"{S}Header/{WSA}Action") == f"{reference.uri}/{method}Response"
        [output] = answer.find(f"{S}Body")
        assert output.tag == f"{{{reference.uri}}}{method}_OUTPUT"
        output = Instance(output)
        return int(output.pop("ReturnValue")), output

    def open(self, uri, *, mode=None, optimized=None, dialect=None, query=None, expires=None,
             polymorphism=None, namespace=None):
        """EnumerateResponse."""
        body = ET.Element(f"{WSEN}Enumerate")
        if expires:
            ET.SubElement(body, f"{WSEN}Expires").text = expires
        if optimized:
            ET.SubElement(body, f"{WSMAN_}OptimizeEnumeration")
            ET.SubElement(body, f"{WSMAN_}MaxElements").text = str(optimized)
        if mode:
            ET.SubElement(body, f"{WSMAN_}EnumerationMode").text = mode
        if polymorphism:
            ET.SubElement(body, f"{BINDING}PolymorphismMode").text = polymorphism
        if dialect:
            element = ET.SubElement(body, f"{WSMAN_}Filter", Dialect=dialect)
            if isinstance(query, str):
                element.text = query
            else:
                element.append(query)
        chosen = SelectorSet()
        if namespace:
            chosen.add_option("__cimnamespace", namespace)
        [answer] = self.wsman.enumerate(uri, body, selector_set=chosen if namespace else None)
        assert answer.tag == f"{WSEN}EnumerateResponse"
        return answer

    def pull(self, uri, context, count=None):
        body = ET.Element(f"{WSEN}Pull")
        ET.SubElement(body, f"{WSEN}EnumerationContext").text = context
        if count:
            ET.SubElement(body, f"{WSEN}MaxElements").text = str(count)
        [answer] = self.wsman.pull(uri, body)
        assert answer.tag == f"{WSEN}PullResponse"
        return answer

    def release(self, uri, context):
        body = ET.Element(f"{WSEN}Release")
        ET.SubElement(body, f"{WSEN}EnumerationContext").text = context
        return self.wsman.invoke(RELEASE, uri, body)

    def items(self, uri, *, count=20, optimized=100, **more):
        """Everything of an enumeration, as elements."""
        answer = self.open(uri, optimized=optimized, **more)
        found = list(answer.find(f"{WSMAN_}Items") or [])
        ended = answer.find(f"{WSMAN_}EndOfSequence") is not None
        context = answer.findtext(f"{WSEN}EnumerationContext")
        while not ended:
            answer = self.pull(uri, context, count)
            found += list(answer.find(f"{WSEN}Items"))
            ended = answer.find(f"{WSEN}EndOfSequence") is not None
            context = None if ended else answer.findtext(f"{WSEN}EnumerationContext")
        return found

    def instances(self, name, **more):
        return [Instance(element) for element in self.items(self.uri(name), **more)]

    def references(self, name, **more):
        found = self.items(self.uri(name), mode="EnumerateEPR", **more)
        assert all(element.tag == f"{WSA}EndpointReference" for element in found)
        return [Reference.read(element) for element in found]

    def only(self, name):
        [found] = self.references(name)
        return found

    def associated(self, reference, association=None, result=None, question="AssociatedInstances", **more):
        query = ET.Element(f"{BINDING}{question}")
        reference.write(ET.SubElement(query, f"{BINDING}Object"))
        if association:
            ET.SubElement(query, f"{BINDING}AssociationClassName").text = association
        if result:
            ET.SubElement(query, f"{BINDING}ResultClassName").text = result
        return self.items(self.uri("*"), dialect=ASSOCIATIONS, query=query, **more)

    def pool(self):
        found = self.items(self.uri("CIM_StoragePool"), mode="EnumerateObjectAndEPR")
        [pool] = [Reference.read(item[1]) for item in found if Instance(item[0])["Primordial"] == "false"]
        return pool

    def create_disk(self, name, size=MIB, kind=5):
        """Starts a creation; the reference of its job."""
        value, output = self.invoke(
            self.only("CIM_StorageConfigurationService"), "CreateOrModifyElementFromStoragePool",
            ElementName=name, ElementType=str(kind), Size=str(size), InPool=self.pool())
        assert value == 4096 and output["Size"] == str(size), (value, output)
        return output["Job"]

    def wait(self, job):
        deadline = time.monotonic() + 60
        while (found := self.get(job))["JobState"] not in TERMINAL:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found


def write_values(parent, uri, values):
    for name, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            element = ET.SubElement(parent, f"{{{uri}}}{name}")
            if one is None:
                element.set(f"{XSI}nil", "true")
            elif isinstance(one, Reference):
                one.write(element)
            else:
                element.text = one
