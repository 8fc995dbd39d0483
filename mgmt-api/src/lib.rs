//! Management: CIM-XML and REST over one service layer.
