using Pandora.Client;

namespace Pandora.HostTests;

/// <summary>Programs that a guest's root user puts in the place of the SSH server, where commands run over SSH.</summary>
public sealed class FalseServerTests(HostileSshFixture fixture) : HostileTest(fixture), IClassFixture<HostileSshFixture>
{
    // The seconds are the timeout of each command. A server that sends without end needs time to do harm, the others act at once.
    public static TheoryData<string, string, int> FalseServers => new()
    {
        { "silence", "while True:\n    time.sleep(1)", 6 },
        { "a banner without end", "while True:\n    c.sendall(b'x' * 65536)", 15 },
        { "lines without end", "while True:\n    c.sendall(b'not SSH\\r\\n' * 4096)", 15 },
        { "garbage after the banner", "c.sendall(b'SSH-2.0-dropbear_2022.83\\r\\n')\nwhile True:\n    c.sendall(os.urandom(65536))", 15 },
        {
            "a packet of four gigabytes",
            "c.sendall(b'SSH-2.0-dropbear_2022.83\\r\\n' + b'\\xff\\xff\\xff\\xff' + b'\\0' * 65536)\ntime.sleep(30)", 6
        },
    };

    /// <summary>
    /// Another program replaces the guest's SSH server. The host key belongs to the guest, so its root user can also speak SSH correctly
    /// and lie. That affects only the guest's own commands.
    /// </summary>
    [Theory]
    [MemberData(nameof(FalseServers))]
    public async Task A_false_SSH_server_harms_only_its_own_sandbox(string name, string serve, int seconds)
    {
        Assert.NotEmpty(name);
        var program =
            $"import os, socket, threading, time\ndef serve(c):\n    try:\n{Indent(serve, 8)}\n    except OSError: pass\ns = "
            + "socket.create_server(('172.16.0.2', 22))\nwhile True:\n    c, _ = s.accept()\n    threading.Thread(target=serve, "
            + "args=(c,), daemon=True).start()\n";
        await Hostile.ExecAsync(
            "cat > /root/false.py; printf '#!/bin/sh\\nexec python3 /root/false.py\\n' > /root/false; chmod +x /root/false; "
                + "d=$(command -v dropbear); rm $d; cp /root/false $d",
            new ExecOptions { Stdin = program });
        // Every dropbear process is killed, and PID 1 starts the program in its place.
        await IgnoreAsync(() =>
            Hostile.ExecAsync(
                "(sleep 0.3; pkill -9 dropbear) > /dev/null 2>&1 & sleep 15", new ExecOptions { Timeout = TimeSpan.FromSeconds(20) }));
        await UntilListeningAsync();
        var before = ResidentBytes();
        var asking = Task.WhenAll(
            Enumerable
                .Range(0, 3)
                .Select(async _ =>
                    Assert.NotNull(
                        await IgnoreAsync(() => Hostile.ExecAsync("true", new ExecOptions { Timeout = TimeSpan.FromSeconds(seconds) })))));
        while (!asking.IsCompleted)
        {
            await MustServeAsync();
        }

        await asking;
        Assert.True(ResidentBytes() - before < 150 << 20, $"the server uses {(ResidentBytes() - before) >> 20} MiB more");
        await MustServeAsync();
    }
}
