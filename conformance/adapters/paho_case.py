"""One test method of Paho's interoperability tests: `paho_case.py MODULE PORT METHOD`, in the folder of the tests.

The settings are those of the module's own main program; a process for each test keeps what one leaves behind from the next.
"""
import importlib
import logging
import os
import sys
import unittest

name, port, method = sys.argv[1:4]
sys.path.insert(0, os.getcwd())
sys.argv = [name]
module = importlib.import_module(name)
prefix = "client_test5/" if name == "client_test5" else ""
module.host, module.port = "127.0.0.1", int(port)
module.topic_prefix = prefix
module.topics = [prefix + topic for topic in ("TopicA", "TopicA/B", "Topic/C", "TopicA/C", "/TopicA")]
module.wildtopics = [prefix + topic for topic in ("TopicA/+", "+/C", "#", "/#", "/+", "+/+", "TopicA/#")]
module.nosubscribe_topics = ("test/nosubscribe",)
logging.getLogger().setLevel(logging.ERROR)
result = unittest.TextTestRunner(verbosity=0).run(unittest.TestSuite([module.Test(method)]))
sys.stdout.flush()
sys.stderr.flush()
# Their clients leave threads behind.
os._exit(0 if result.wasSuccessful() else 1)
