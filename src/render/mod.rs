//! What things look like on the wire: a lane becomes a Machine, frp's two configurations, and objects in the cluster.
//! Pure. A port travels Service → Tunnel → here, and appears nowhere else.

pub mod frp;
pub mod machine;
pub mod objects;
pub mod status;
#[cfg(test)]
mod tests;
