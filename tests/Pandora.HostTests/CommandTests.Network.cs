using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.HostTests;

// The guest's network, which the agent does not need.
public sealed partial class AgentCommandTests
{
    [Theory]
    [InlineData("ip link set eth0 down")]
    [InlineData("ip link set eth0 down; ip link set lo down")]
    [InlineData("ip addr flush dev eth0; ip addr flush dev lo")]
    [InlineData("ip route flush table main; ip route flush table local")]
    [InlineData("ip rule add pref 1 blackhole; ip rule del pref 0")]
    [InlineData("ip link set eth0 down; ip link set eth0 name other0; ip link set other0 up mtu 68")]
    [InlineData("basename $(readlink /sys/class/net/eth0/device) > /sys/bus/virtio/drivers/virtio_net/unbind")]
    [InlineData("ip addr add 172.16.0.1/32 dev lo; ip neigh flush all; sysctl -qw net.ipv4.tcp_mem='0 0 0' || true")]
    public async Task Commands_work_on_whatever_happens_to_the_guests_network(string cut)
    {
        var running = OutputAsync("until [ -e /tmp/go ]; do sleep 0.5; done; echo through; cat", As("user", stdin: "input"));
        await RunAsync($"{cut}; echo cut");
        await OutputAsync("touch /tmp/go");
        Assert.Equal("through\ninput", await running);
        foreach (var user in new[] { null, "user", "nobody" })
        {
            Assert.Equal("on in", await OutputAsync("echo -n 'on '; cat", As(user, stdin: "in")));
        }

        var big = await RunAsync("head -c 2000000 /dev/zero | tr '\\0' 'x'; exit 3", As(null, stdin: new string('y', 2_000_000)));
        Assert.Equal((3, 2_000_000), (big.ExitCode, big.Stdout.Length));
        var timeout = await Assert.ThrowsAsync<ExecTimeoutException>(() => RunAsync("sleep 1008 & sleep 1009", As(null, seconds: 2)));
        Assert.Equal(CommandStates.Killed, timeout.Command);
        var results = await Task.WhenAll(Enumerable.Range(0, 10).Select(i => OutputAsync($"echo {i}")));
        Assert.Equal(Enumerable.Range(0, 10).Select(i => $"{i}\n"), results);
        Assert.Equal("running", (await Sandbox.KeepAliveAsync()).State);
        Assert.Equal(0, (await Sandbox.EndAsync()).Remaining);
    }

    [Fact]
    public async Task Commands_work_on_long_after_the_network_was_cut()
    {
        await OutputAsync("ip link set eth0 down");
        // Longer than a server waits for an answer of a guest whose agent is silent.
        await Task.Delay(TimeSpan.FromSeconds(70), TimeProvider.System);
        Assert.Equal("on\n", await OutputAsync("echo on"));
        await OutputAsync("ip link set eth0 up; ip route add default via 172.16.0.1");
        Assert.Equal("on\n", await OutputAsync("echo on"));
    }

    [Fact]
    public async Task No_port_of_the_guest_is_taken()
    {
        Assert.Equal("", await OutputAsync("ss -Hltun"));
        Assert.Equal("hello\n", await OutputAsync("""
            python3 -c '
            import socket
            for family, address, to in (socket.AF_INET, "0.0.0.0", "127.0.0.1"), (socket.AF_INET6, "::", "::1"):
                with socket.socket(family) as server:
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6: server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    server.bind((address, 22))
                    server.listen()
                    with socket.create_connection((to, 22)) as client:
                        client.sendall(b"hello")
                        with server.accept()[0] as accepted:
                            words = accepted.recv(5)
            print(words.decode())
            '
            """));
        // Nothing that a command could not see was there before, nor is it now.
        Assert.Equal("on\n", await OutputAsync("echo on"));
        Assert.Equal("0\n", (await RunAsync("pgrep -c 'dropbear|sshd'")).Stdout);
    }
}
