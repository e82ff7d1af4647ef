//! A request: its header, its body's bytes, and the frame of its answer.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Message, decode_request_header_from_buffer,
};

use crate::frame::Frame;
use crate::shape;

/// The bytes of the API's key and version, which stand first.
const KEY_AND_VERSION: usize = 4;

pub(crate) struct Request {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    /// The address that the client connected to, which is the one to tell it.
    pub(crate) address: SocketAddr,
    pub(crate) correlation_id: i32,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn decode(mut bytes: Bytes, address: SocketAddr) -> anyhow::Result<Self> {
        ensure!(bytes.len() >= KEY_AND_VERSION, "a request of {} bytes", bytes.len());
        let header: RequestHeader = decode_request_header_from_buffer(&mut bytes)?;
        let api = ApiKey::try_from(header.request_api_key)
            .map_err(|()| anyhow::anyhow!("API {} is unknown", header.request_api_key))?;
        let version = header.request_api_version;
        Ok(Self { api, version, address, correlation_id: header.correlation_id, body: bytes })
    }

    /// Decodes the body. Batches in it are slices of the request's bytes.
    pub(crate) fn body<T: Decodable + Message>(&self) -> anyhow::Result<T> {
        let mut rest = self.body.clone();
        let body = shape::check(self.api, self.version, &rest)
            .and_then(|()| T::decode(&mut rest, self.version))
            .with_context(|| format!("a malformed {:?} request of version {}", self.api, self.version))?;
        ensure!(rest.is_empty(), "{} bytes behind {:?}", rest.len(), self.api);
        Ok(body)
    }

    /// The beginning of an answer, up to its body.
    pub(crate) fn begin_answer<T: HeaderVersion>(&self) -> anyhow::Result<Frame> {
        let mut frame = Frame::default();
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        frame.encode(&header, T::header_version(self.version))?;
        Ok(frame)
    }

    /// The answer to send.
    pub(crate) fn answer<T: Encodable + HeaderVersion>(&self, response: &T) -> anyhow::Result<Frame> {
        let mut frame = self.begin_answer::<T>()?;
        frame.encode(response, self.version)?;
        Ok(frame)
    }
}
