//! Request bodies and answers past the SDK's own structures, in its public configuration.

use super::protocol::{Form, read_answer};
use super::{Answer, BodyHash, cbor};
use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_kinesis::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_smithy_json::protocol::aws_json_rpc::AwsJsonRpcProtocol;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_runtime_api::http::{Request, Response};
use aws_smithy_schema::protocol::{ClientProtocol, ClientProtocolInner};
use aws_smithy_schema::serde::{SerdeError, SerializableStruct, ShapeDeserializer};
use aws_smithy_schema::{Schema, ShapeId};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::endpoint::Endpoint;
use aws_smithy_types::error::metadata::{Builder as ErrorMetadataBuilder, ErrorMetadata};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// One request body on its way out, and the answer read from the response.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) body: Bytes,
    pub(super) form: Form,
    pub(super) hash: Option<BodyHash>,
    pub(super) answer: OnceLock<Answer>,
}

tokio::task_local! {
    /// The exchange of the task that sends a request. An interceptor of the request's own could hold it, but then the
    /// SDK puts its configuration together anew for each request.
    pub(super) static EXCHANGE: Arc<Exchange>;
}

/// Puts the body of [`EXCHANGE`], written by the producer, in place of the SDK's before it is signed, and reads the
/// answer straight from the response: no structure is built per entry on either way.
#[derive(Debug)]
pub(super) struct ExchangeBody;

#[dyn_dispatch_hint]
impl Intercept for ExchangeBody {
    fn name(&self) -> &'static str {
        "ExchangeBody"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let exchange = EXCHANGE.try_with(Arc::clone)?;
        let request = context.request_mut();
        let length = exchange.body.len().to_string();
        request.headers_mut().try_insert("content-length", length)?;
        if exchange.form == Form::Cbor {
            request.headers_mut().try_insert("content-type", cbor::CONTENT_TYPE)?;
        }
        *request.body_mut() = SdkBody::from(exchange.body.clone());
        if let Some(BodyHash(hash)) = &exchange.hash {
            config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(hex(hash)));
        }
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        if let (true, Some(body)) = (response.status().is_success(), response.body().bytes()) {
            EXCHANGE.try_with(|exchange| drop(exchange.answer.set(read_answer(body, form(response)))))?;
        }
        Ok(())
    }
}

/// The form of a response.
fn form(response: &Response) -> Form {
    match response.headers().get("content-type") {
        Some(kind) if kind.starts_with(cbor::CONTENT_TYPE) => Form::Cbor,
        _ => Form::Json,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The SDK's awsJson1.1, but for answers to `PutRecords`: those are read by [`ExchangeBody`], so the
/// SDK is given an empty result to build its own structures from. Errors may come in CBOR as well.
#[derive(Debug)]
pub(super) struct WireProtocol(AwsJsonRpcProtocol);

impl WireProtocol {
    pub(super) fn new() -> Self {
        Self(AwsJsonRpcProtocol::aws_json_1_1())
    }

    /// Reads this in place of a response that was read already, or is of another form.
    fn empty(&self, json: &'static [u8]) -> Result<Box<dyn ShapeDeserializer>, SerdeError> {
        let codec = ClientProtocolInner::payload_codec(self)
            .ok_or_else(|| SerdeError::custom("awsJson has a codec"))?;
        Ok(codec.create_deserializer(json))
    }
}

impl ClientProtocolInner for WireProtocol {
    type Request = Request;
    type Response = Response;

    fn protocol_id(&self) -> &ShapeId<'static> {
        ClientProtocol::protocol_id(&self.0)
    }

    fn serialize_request(
        &self,
        input: &dyn SerializableStruct,
        input_schema: &Schema<'_>,
        endpoint: &str,
        cfg: &ConfigBag,
    ) -> Result<Request, SerdeError> {
        ClientProtocol::serialize_request(&self.0, input, input_schema, endpoint, cfg)
    }

    fn deserialize_response<'a>(
        &self,
        _: &'a Response,
        _: &Schema<'_>,
        _: &'a ConfigBag,
    ) -> Result<Box<dyn ShapeDeserializer + 'a>, SerdeError> {
        self.empty(br#"{"Records":[]}"#)
    }

    fn parse_error_metadata(
        &self,
        response: &Response,
        cfg: &ConfigBag,
    ) -> Result<ErrorMetadataBuilder, SerdeError> {
        match (form(response), response.body().bytes()) {
            (Form::Cbor, Some(body)) => {
                let (code, message) = cbor::read_error(body);
                let mut metadata = ErrorMetadata::builder();
                if let Some(code) = code {
                    metadata = metadata.code(code);
                }
                if let Some(message) = message {
                    metadata = metadata.message(message);
                }
                Ok(metadata)
            }
            _ => ClientProtocol::parse_error_metadata(&self.0, response, cfg),
        }
    }

    fn deserialize_error_response<'a>(
        &self,
        response: &'a Response,
        cfg: &'a ConfigBag,
    ) -> Result<Box<dyn ShapeDeserializer + 'a>, SerdeError> {
        match form(response) {
            // What it says beyond code and message nobody asks for.
            Form::Cbor => self.empty(b"{}"),
            Form::Json => ClientProtocol::deserialize_error_response(&self.0, response, cfg),
        }
    }

    fn update_endpoint(
        &self,
        request: &mut Request,
        endpoint: &Endpoint,
        cfg: &ConfigBag,
    ) -> Result<(), SerdeError> {
        ClientProtocol::update_endpoint(&self.0, request, endpoint, cfg)
    }

    fn payload_codec(&self) -> Option<&dyn aws_smithy_schema::codec::DynCodec> {
        ClientProtocol::payload_codec(&self.0)
    }

    fn event_stream_media_type(&self) -> Option<&str> {
        ClientProtocol::event_stream_media_type(&self.0)
    }

    fn parse_event_stream_error_metadata(&self, payload: &[u8]) -> Result<ErrorMetadataBuilder, SerdeError> {
        ClientProtocol::parse_event_stream_error_metadata(&self.0, payload)
    }
}
