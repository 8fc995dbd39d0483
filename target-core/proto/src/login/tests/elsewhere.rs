//! Logins into sessions that are there already, and to targets that have moved.

use super::*;

/// A target with one session, that has got to CmdSN 5000.
struct WithSession;

impl LoginPolicy for WithSession {
    fn target(&self, _: &IscsiName, _: &IscsiName) -> Result<TargetLogin, LoginStatus> {
        Ok(TargetLogin::default())
    }

    fn discovery(&self, _: &IscsiName) -> Result<AuthPolicy, LoginStatus> {
        Ok(AuthPolicy::None)
    }

    fn session(&self, name: SessionName<'_>) -> Option<ExistingSession> {
        assert_eq!(name.isid, Isid(login_request(0).isid));
        let parameters = Parameters {
            max_burst_length: 4096,
            header_digest: true,
            initiator_max_recv_data_segment_length: 512,
            ..Parameters::default()
        };
        let session = ExistingSession { parameters, exp_cmd_sn: CmdSn(5000) };
        (name.tsih == Tsih(0x77)).then_some(session)
    }

    fn random(&self, _: &mut [u8]) -> Result<(), LoginStatus> {
        Err(LoginStatus::TargetError)
    }
}

fn respond(login: &mut Login, request: LoginRequest, pairs: &[&str]) -> (LoginStep, Vec<u8>) {
    let text: Vec<u8> = pairs.iter().flat_map(|pair| [pair.as_bytes(), b"\0"].concat()).collect();
    let pdu = Pdu { bhs: request.bytes(), ahs: &[], data: &text };
    let mut out = Vec::new();
    (login.handle(&pdu, &WithSession, &mut out), out)
}

#[test]
fn a_connection_of_a_session_that_is_there_takes_over_what_is_settled() {
    let config = LoginConfig { offer: Offer::default(), target_portal_group_tag: 3, window: 32 };
    let mut login = Login::new(config);
    let request = |flags| LoginRequest { tsih: 0x77.into(), ..login_request(flags) };
    let (_, out) = respond(&mut login, request(SECURITY_TO_OPERATIONAL), &NAMES);
    let response = *LoginResponse::view(out.first_chunk().unwrap());
    assert_eq!((response.exp_cmd_sn.get(), response.max_cmd_sn.get()), (5000, 4999));
    let asked = ["MaxBurstLength=512", "MaxRecvDataSegmentLength=1024"];
    let (step, _) = respond(&mut login, request(OPERATIONAL_TO_FULL), &asked);
    let LoginStep::Admit(outcome) = step else { panic!("{step:?}") };
    let expected = Parameters {
        max_burst_length: 4096,
        max_recv_data_segment_length: Offer::default().max_recv_data_segment_length,
        initiator_max_recv_data_segment_length: 1024,
        ..Parameters::default()
    };
    assert_eq!(outcome.parameters, expected);
    let mut out = Vec::new();
    login.admit_into(Tsih(0x77), CmdSn(5001), CmdSn(5032), &mut out);
    let reply = cut(&Decoder::for_login(LOGIN_SEGMENT_LENGTH), &out).remove(0);
    let response = LoginResponse::view(&reply.bhs);
    assert_eq!(response.tsih.get(), 0x77);
    assert_eq!((response.exp_cmd_sn.get(), response.max_cmd_sn.get()), (5001, 5032));
    let text = String::from_utf8(reply.data).unwrap();
    assert!(text.contains("MaxBurstLength=Reject\0"), "{text}");
}

/// A target that has moved.
struct Moved(Redirect);

impl LoginPolicy for Moved {
    fn target(&self, _: &IscsiName, target: &IscsiName) -> Result<TargetLogin, LoginStatus> {
        if !target.as_str().ends_with("disk") {
            return Err(LoginStatus::NotFound);
        }
        Ok(TargetLogin::default())
    }

    fn redirect(&self, _: &IscsiName, _: &IscsiName) -> Option<Redirect> {
        Some(self.0.clone())
    }

    fn discovery(&self, _: &IscsiName) -> Result<AuthPolicy, LoginStatus> {
        Ok(AuthPolicy::None)
    }

    fn random(&self, _: &mut [u8]) -> Result<(), LoginStatus> {
        Err(LoginStatus::TargetError)
    }
}

#[test]
fn a_target_that_has_moved_says_where_to() {
    for (permanent, address, status, text) in [
        (false, "192.0.2.7:3261,5", (1, 1), "TargetAddress=192.0.2.7:3261\0"),
        (true, "[2001:db8::7]", (1, 2), "TargetAddress=[2001:db8::7]:3260\0"),
    ] {
        let address = TargetAddress::parse(address).unwrap();
        let policy = Moved(Redirect { address, permanent });
        let login = |pairs: &[&str]| {
            let config =
                LoginConfig { offer: Offer::default(), target_portal_group_tag: 3, window: 32 };
            let text: Vec<u8> =
                pairs.iter().flat_map(|pair| [pair.as_bytes(), b"\0"].concat()).collect();
            let request = login_request(SECURITY_TO_OPERATIONAL);
            let pdu = Pdu { bhs: request.bytes(), ahs: &[], data: &text };
            let mut out = Vec::new();
            Login::new(config).handle(&pdu, &policy, &mut out);
            let reply = cut(&Decoder::for_login(LOGIN_SEGMENT_LENGTH), &out).remove(0);
            let response = *LoginResponse::view(&reply.bhs);
            let status = (response.status_class, response.status_detail);
            assert_eq!(response.transit(), status == (0, 0));
            (status, String::from_utf8(reply.data).unwrap())
        };
        assert_eq!(login(&NAMES), (status, text.to_owned()));
        // Discovery, and targets that are not there, are not sent anywhere.
        assert_eq!(login(&[NAMES[0], "SessionType=Discovery"]).0, (0, 0));
        let other = login(&[NAMES[0], "TargetName=iqn.2001-04.com.example:other"]);
        assert_eq!(other, ((2, 3), String::new()));
    }
}
