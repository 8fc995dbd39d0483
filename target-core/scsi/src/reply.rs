//! Parameter data: built in full, then cut to the allocation length (SPC-4 §4.3.5.6).

/// Appends the fields of parameter data in network order.
pub(crate) trait Fields {
    fn u8(&mut self, value: u8);
    fn u16(&mut self, value: u16);
    fn u32(&mut self, value: u32);
    fn u64(&mut self, value: u64);
    fn zeroes(&mut self, count: usize);
    /// Writes over two bytes that are already there.
    fn set_u16(&mut self, at: usize, value: usize);
    /// Writes over one byte that is already there.
    fn set_u8(&mut self, at: usize, value: usize);
}

impl Fields for Vec<u8> {
    fn u8(&mut self, value: u8) {
        self.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn zeroes(&mut self, count: usize) {
        self.resize(self.len() + count, 0);
    }

    fn set_u16(&mut self, at: usize, value: usize) {
        let value = u16::try_from(value).unwrap_or(u16::MAX);
        if let Some(field) = self.get_mut(at..at + 2) {
            field.copy_from_slice(&value.to_be_bytes());
        }
    }

    fn set_u8(&mut self, at: usize, value: usize) {
        if let Some(field) = self.get_mut(at) {
            *field = u8::try_from(value).unwrap_or(u8::MAX);
        }
    }
}

/// Cuts the reply to the allocation length. The lengths inside of it stay: they say how much
/// there would have been.
pub(crate) fn truncate(reply: &mut Vec<u8>, allocation_length: u32) {
    reply.truncate(usize::try_from(allocation_length).unwrap_or(usize::MAX));
}
