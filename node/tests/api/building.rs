//! Transactions that a node assembles for a client: the client signs what it gets and hands
//! it in, and an order that can't be built names the field to correct.

use pithead_api::v1;
use pithead_testkit::process::{Network, TestNode, data_dir, violated_field};
use pithead_testkit::{PIT, key};

fn order(network: &Network) -> v1::BuildTransactionRequest {
    v1::BuildTransactionRequest {
        sender: network.address(0),
        outputs: vec![v1::TransactionOutput {
            recipient: network.address(1),
            amount: PIT,
        }],
        data: b"for the rent".to_vec().into(),
        fee: None,
        sequence: None,
    }
}

#[tokio::test]
async fn a_built_transaction_is_signed_and_submitted_in_parts() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    for sequence in 0..2 {
        let built = node.transactions().build_transaction(order(&network)).await;
        let built = built.unwrap().into_inner();
        assert_eq!(built.sequence, sequence, "pending ones are counted");
        assert_eq!(built.public_key_required, sequence == 0);
        assert_eq!(built.fee, u64::from(built.size_bytes), "one grain a byte");
        let public_key = if built.public_key_required {
            key(0).public.modulus().to_vec()
        } else {
            Vec::new()
        };
        let parts = v1::SignedParts {
            body: built.body,
            public_key: public_key.into(),
            signature: key(0).sign(&built.signing_message).0.to_vec().into(),
        };
        let request = v1::SubmitTransactionRequest {
            transaction: Some(v1::submit_transaction_request::Transaction::Parts(parts)),
        };
        let answer = node.transactions().submit_transaction(request).await;
        let answer = answer.unwrap().into_inner();
        assert_eq!(answer.outcome(), v1::SubmitTransactionOutcome::Accepted);
        assert_eq!(answer.txid, built.txid);
    }
    let given = v1::BuildTransactionRequest {
        fee: Some(5_000),
        sequence: Some(9),
        ..order(&network)
    };
    let built = node
        .transactions()
        .build_transaction(given)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((built.fee, built.sequence), (5_000, 9));
    assert!(!built.public_key_required);
}

#[tokio::test]
async fn orders_that_can_not_be_built_name_their_field() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    let good = order(&network);
    let output = good.outputs[0].clone();
    let with_outputs = |outputs| v1::BuildTransactionRequest {
        outputs,
        ..good.clone()
    };
    let cases = [
        (
            "sender",
            v1::BuildTransactionRequest {
                sender: String::new(),
                ..good.clone()
            },
        ),
        ("outputs", with_outputs(Vec::new())),
        ("outputs", with_outputs(vec![output.clone(); 256])),
        (
            "outputs[1].amount",
            with_outputs(vec![
                output.clone(),
                v1::TransactionOutput {
                    amount: 0,
                    ..output.clone()
                },
            ]),
        ),
        (
            "outputs[0].recipient",
            with_outputs(vec![v1::TransactionOutput {
                recipient: "?".into(),
                ..output.clone()
            }]),
        ),
        (
            "data",
            v1::BuildTransactionRequest {
                data: vec![0; 1_025].into(),
                ..good.clone()
            },
        ),
        (
            "fee",
            v1::BuildTransactionRequest {
                fee: Some(u64::MAX),
                ..good.clone()
            },
        ),
    ];
    for (field, request) in cases {
        let status = node
            .transactions()
            .build_transaction(request)
            .await
            .unwrap_err();
        assert_eq!(violated_field(&status), field);
    }
    let request = v1::SubmitTransactionRequest { transaction: None };
    let status = node
        .transactions()
        .submit_transaction(request)
        .await
        .unwrap_err();
    assert_eq!(violated_field(&status), "transaction");
}
