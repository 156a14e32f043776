"""Runs the tests of this directory and writes their results as JUnit XML: run_tests.py FILE. Exit code 1: a test failed."""
import sys
import unittest
import xml.etree.ElementTree as xml


class Results(unittest.TextTestResult):
    def startTestRun(self):
        super().startTestRun()
        self.suite = xml.Element("testsuite", name="tests")

    def startTest(self, test):
        super().startTest(test)
        name = test.id().rpartition(".")
        self.case = xml.SubElement(self.suite, "testcase", classname=name[0], name=name[2])

    def addFailure(self, test, error):
        super().addFailure(test, error)
        xml.SubElement(self.case, "failure", message=str(error[1])).text = self.failures[-1][1]

    def addError(self, test, error):
        super().addError(test, error)
        xml.SubElement(self.case, "error", message=str(error[1])).text = self.errors[-1][1]


results = unittest.TextTestRunner(resultclass=Results, verbosity=2).run(unittest.defaultTestLoader.discover("."))
results.suite.set("tests", str(results.testsRun))
results.suite.set("failures", str(len(results.failures)))
results.suite.set("errors", str(len(results.errors)))
xml.ElementTree(results.suite).write(sys.argv[1], encoding="utf-8", xml_declaration=True)
sys.exit(0 if results.wasSuccessful() else 1)
