//! The suites. Adding one: a line here, a table in `conformance/expected.toml`, a line in `conformance/README.md`.

/// Where a suite's sources come from.
pub(super) enum Origin {
    /// A checkout, given by `--sources DIR`, in the folder of that name.
    Repository {
        /// The folder below DIR.
        folder: &'static str,
        /// Where to get it.
        url: &'static str,
        /// The commit or tag that `expected.toml` speaks of.
        at: &'static str,
    },
    /// The source archive of a Python package.
    Pip {
        /// As pip names it.
        package: &'static str,
        /// Exactly.
        version: &'static str,
    },
    /// An installed Node package, pinned in `conformance/package.json`; our own script is its test where it has none.
    Npm(&'static str),
    /// A Go module, by the Go tool.
    Go {
        /// The module's path.
        module: &'static str,
        /// Exactly.
        version: &'static str,
    },
}

/// How a suite is run.
pub(super) enum Runner {
    /// A process and a server for each of Paho's test methods in that file.
    Paho(&'static str),
    /// A process for each script; each starts the server itself.
    Mosquitto,
    /// Test files under pytest.
    Pytest(&'static [&'static str]),
    /// The same, for clients of Amazon's APIs, with those clients' packages.
    Boto {
        /// Where in the sources it is run.
        folder: &'static str,
        /// Our plug-in that such a suite needs, where it does.
        plugin: Option<&'static str>,
        files: &'static [&'static str],
    },
    /// Test files under vitest, copied beside the packages that they import.
    Vitest {
        /// Where in the sources they are.
        folder: &'static str,
        /// What it copies: the tests, and what they import of each other.
        files: &'static [&'static str],
    },
    /// Test files under Node's own test runner.
    Node(&'static [&'static str]),
    /// A script of ours under Node, which reports its cases.
    Script(&'static str),
    /// A test binary built with that tag; the tests of that file.
    Go {
        /// The build tag.
        tag: &'static str,
        /// The file whose tests are meant.
        file: &'static str,
    },
}

pub(super) struct Suite {
    pub(super) name: &'static str,
    pub(super) protocol: &'static str,
    pub(super) origin: Origin,
    pub(super) runner: Runner,
    /// Our server's settings: a file in `conformance/`; the defaults where there is none.
    pub(super) settings: Option<&'static str>,
    /// Whether the gate runs it: short, and without sources.
    pub(super) quick: bool,
}

const PAHO: Origin = Origin::Repository {
    folder: "paho.mqtt.testing",
    url: "https://github.com/eclipse/paho.mqtt.testing",
    at: "9d7bb80",
};

const MOTO: Origin = Origin::Repository {
    folder: "moto",
    url: "https://github.com/getmoto/moto",
    at: "5.2.3",
};

const FLOCI: Origin = Origin::Repository {
    folder: "floci",
    url: "https://github.com/floci-io/floci",
    at: "a2389e7",
};

const AMQPLIB: Runner = Runner::Node(&[
    "test/channel_api.test.js",
    "test/callback_api.test.js",
    "test/connect.test.js",
]);

pub(super) const SUITES: &[Suite] = &[
    Suite {
        name: "paho-v3",
        protocol: "mqtt",
        origin: PAHO,
        runner: Runner::Paho("client_test"),
        settings: Some("paho.toml"),
        quick: false,
    },
    Suite {
        name: "paho-v5",
        protocol: "mqtt",
        origin: PAHO,
        runner: Runner::Paho("client_test5"),
        settings: Some("paho.toml"),
        quick: false,
    },
    Suite {
        name: "mosquitto",
        protocol: "mqtt",
        origin: Origin::Repository {
            folder: "mosquitto",
            url: "https://github.com/eclipse/mosquitto",
            at: "v2.0.20",
        },
        runner: Runner::Mosquitto,
        settings: Some("mosquitto.toml"),
        quick: false,
    },
    Suite {
        name: "mqttjs",
        protocol: "mqtt",
        origin: Origin::Npm("mqtt"),
        runner: Runner::Script("mqttjs.cjs"),
        settings: None,
        quick: true,
    },
    Suite {
        name: "amqplib",
        protocol: "amqp",
        origin: Origin::Repository {
            folder: "amqplib",
            url: "https://github.com/amqp-node/amqplib",
            at: "f7503e5",
        },
        runner: AMQPLIB,
        settings: Some("amqp.toml"),
        quick: false,
    },
    // The last release whose package has the tests in it.
    Suite {
        name: "amqplib-1.0",
        protocol: "amqp",
        origin: Origin::Npm("amqplib"),
        runner: AMQPLIB,
        settings: Some("amqp.toml"),
        quick: true,
    },
    Suite {
        name: "py-amqp",
        protocol: "amqp",
        origin: Origin::Pip {
            package: "amqp",
            version: "5.3.1",
        },
        runner: Runner::Pytest(&["t/integration"]),
        settings: Some("amqp.toml"),
        quick: true,
    },
    Suite {
        name: "pika",
        protocol: "amqp",
        origin: Origin::Repository {
            folder: "pika",
            url: "https://github.com/pika/pika",
            at: "2126d43",
        },
        runner: Runner::Pytest(&[
            "tests/acceptance/blocking_adapter_test.py",
            "tests/acceptance/thread_safe_connection_test.py",
            "tests/acceptance/thread_safe_bounded_queue_test.py",
        ]),
        settings: Some("amqp.toml"),
        quick: false,
    },
    Suite {
        name: "amqp091-go",
        protocol: "amqp",
        origin: Origin::Go {
            module: "github.com/rabbitmq/amqp091-go",
            version: "v1.10.0",
        },
        runner: Runner::Go {
            tag: "integration",
            file: "integration_test.go",
        },
        settings: Some("amqp.toml"),
        quick: false,
    },
    Suite {
        name: "stomp.py",
        protocol: "stomp",
        origin: Origin::Repository {
            folder: "stomp.py",
            url: "https://github.com/jasonrbriggs/stomp.py",
            at: "e2b3590",
        },
        runner: Runner::Pytest(&[
            "tests/test_basic.py",
            "tests/test_context.py",
            "tests/test_nonascii.py",
            "tests/test_s10.py",
            "tests/test_s11.py",
            "tests/test_s12.py",
            "tests/test_threading.py",
            "tests/test_misc.py",
            "tests/test_cli.py",
        ]),
        settings: None,
        quick: false,
    },
    Suite {
        name: "stompjs",
        protocol: "stomp",
        origin: Origin::Repository {
            folder: "stompjs",
            url: "https://github.com/stomp-js/stompjs",
            at: "4eaed27",
        },
        runner: Runner::Script("stompjs.cjs"),
        settings: None,
        quick: false,
    },
    Suite {
        name: "stompjs-smoke",
        protocol: "stomp",
        origin: Origin::Npm("@stomp/stompjs"),
        runner: Runner::Script("stompjs-smoke.cjs"),
        settings: None,
        quick: true,
    },
    Suite {
        name: "moto-sqs",
        protocol: "aws",
        origin: MOTO,
        runner: moto(&[
            "tests/test_sqs/test_sqs.py",
            "tests/test_sqs/test_sqs_authentication.py",
            "tests/test_sqs/test_sqs_message_attributes.py",
            "tests/test_sqs/test_sqs_multiaccount.py",
        ]),
        settings: Some("moto.toml"),
        quick: false,
    },
    Suite {
        name: "moto-sns",
        protocol: "aws",
        origin: MOTO,
        runner: moto(&[
            "tests/test_sns/test_application.py",
            "tests/test_sns/test_http_message_verification.py",
            "tests/test_sns/test_publish_batch.py",
            "tests/test_sns/test_publishing.py",
            "tests/test_sns/test_subscriptions.py",
            "tests/test_sns/test_topics.py",
            "tests/test_sns/test_utils.py",
        ]),
        settings: Some("moto.toml"),
        quick: false,
    },
    Suite {
        name: "moto-kinesis",
        protocol: "aws",
        origin: MOTO,
        runner: moto(&[
            "tests/test_kinesis/test_kinesis.py",
            "tests/test_kinesis/test_kinesis_boto3.py",
            "tests/test_kinesis/test_kinesis_encryption.py",
            "tests/test_kinesis/test_kinesis_monitoring.py",
            "tests/test_kinesis/test_kinesis_resource_policy.py",
            "tests/test_kinesis/test_kinesis_stream_consumers.py",
            "tests/test_kinesis/test_kinesis_stream_limits.py",
        ]),
        settings: Some("moto.toml"),
        quick: false,
    },
    Suite {
        name: "floci-python",
        protocol: "aws",
        origin: FLOCI,
        runner: Runner::Boto {
            folder: "compatibility-tests/sdk-test-python",
            plugin: None,
            files: &[
                "tests/test_sqs.py",
                "tests/test_sns.py",
                "tests/test_kinesis.py",
            ],
        },
        settings: None,
        quick: false,
    },
    Suite {
        name: "floci-javascript",
        protocol: "aws",
        origin: FLOCI,
        runner: Runner::Vitest {
            folder: "compatibility-tests/sdk-test-node",
            files: &[
                "tests/setup.ts",
                "tests/sqs.test.ts",
                "tests/sns.test.ts",
                "tests/kinesis.test.ts",
                "vitest.config.ts",
            ],
        },
        settings: None,
        quick: false,
    },
];

const fn moto(files: &'static [&'static str]) -> Runner {
    Runner::Boto {
        folder: ".",
        plugin: Some("aws_doors"),
        files,
    }
}
