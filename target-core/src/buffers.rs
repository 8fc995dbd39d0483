//! Buffers of connections that have something to do. A connection that waits holds none.

use std::cell::RefCell;
use std::sync::Arc;

use crate::connection::{MAX_ORDERS, Order};

/// What one receive takes at most; a PDU of the largest data segment fits with its headers.
pub(crate) const RECEIVE_BUFFER: usize = (256 << 10) + 4096;
/// A transmit buffer that grew beyond this is given back to the system.
const MAX_TRANSMIT_BUFFER: usize = 2 << 20;
/// Buffers of each kind that a thread keeps.
const KEPT: usize = 4;

#[derive(Debug, Default)]
struct Pool {
    receive: Vec<Arc<Vec<u8>>>,
    transmit: Vec<Vec<u8>>,
    orders: Vec<Vec<Order>>,
}

thread_local! {
    /// Of a thread, so that no lock is taken; a task that moves takes its buffers along.
    static POOL: RefCell<Pool> = RefCell::default();
}

/// A receive buffer of [`RECEIVE_BUFFER`] bytes, that nobody else has.
pub(crate) fn take_receive() -> Arc<Vec<u8>> {
    let kept = POOL.with_borrow_mut(|pool| pool.receive.pop());
    kept.unwrap_or_else(|| Arc::new(vec![0; RECEIVE_BUFFER]))
}

/// Gives a receive buffer back. One from which a write is still under way is not kept.
pub(crate) fn give_receive(mut buffer: Arc<Vec<u8>>) {
    let own = Arc::get_mut(&mut buffer).is_some_and(|bytes| bytes.len() == RECEIVE_BUFFER);
    POOL.with_borrow_mut(|pool| {
        if own && pool.receive.len() < KEPT {
            pool.receive.push(buffer);
        }
    });
}

/// A transmit buffer, of whatever size.
pub(crate) fn take_transmit() -> Vec<u8> {
    let kept = POOL.with_borrow_mut(|pool| pool.transmit.pop());
    kept.unwrap_or_else(|| Vec::with_capacity(64 << 10))
}

/// Gives a transmit buffer back.
pub(crate) fn give_transmit(buffer: Vec<u8>) {
    POOL.with_borrow_mut(|pool| {
        if buffer.capacity() <= MAX_TRANSMIT_BUFFER && pool.transmit.len() < KEPT {
            pool.transmit.push(buffer);
        }
    });
}

/// An empty list of orders.
pub(crate) fn take_orders() -> Vec<Order> {
    let kept = POOL.with_borrow_mut(|pool| pool.orders.pop());
    kept.unwrap_or_else(|| Vec::with_capacity(MAX_ORDERS))
}

/// Gives a list of orders back.
pub(crate) fn give_orders(mut orders: Vec<Order>) {
    orders.clear();
    POOL.with_borrow_mut(|pool| {
        if pool.orders.len() < KEPT {
            pool.orders.push(orders);
        }
    });
}
