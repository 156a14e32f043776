"""What a hostile pull request adds: a test that sends what it finds to a server that the sandbox could reach before."""
import os
import socket
import unittest

SERVER = os.environ.get("PANDORA_EXAMPLE_SERVER") or "deb.debian.org:80"


def send_out(words):
    host, _, port = SERVER.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as server:
        server.sendall(f"GET /{words} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return server.recv(12)


class Hostile(unittest.TestCase):
    def test_nothing_gets_out(self):
        try:
            answer = send_out("stolen")
        except OSError as e:
            print(f"did not get out: {e}")
        else:
            self.fail(f"got out: {SERVER} answered {answer}")

    def test_no_secret_came_in(self):
        self.assertEqual([f for f in os.listdir(".") if f.endswith(".secret")], [])


if __name__ == "__main__":
    unittest.main()
