using Pandora.Client;

namespace Pandora.HostTests;

/// <summary>Programs that a guest's root user puts in the place of the agent.</summary>
public sealed class FalseAgentTests(HostileFixture fixture) : HostileTest(fixture), IClassFixture<HostileFixture>
{
    // A frame of the channel: magic, epoch, offset, stream, length, kind, zero, CRC-32C, body, the inverted CRC.
    private const string Program = """
        import glob, os, struct, time
        def crc(data):
            c = 0xffffffff
            for b in data:
                c ^= b
                for _ in range(8):
                    c = (c >> 1) ^ (0x82f63b78 if c & 1 else 0)
            return c ^ 0xffffffff
        def frame(kind, epoch=0, stream=0, offset=0, body=b''):
            head = b'PNDC' + struct.pack('<QQIHBB', epoch, offset, stream, len(body), kind, 0)
            return head + struct.pack('<I', crc(head)) + body + struct.pack('<I', crc(head) ^ 0xffffffff)
        port = None
        while port is None:
            for path in glob.glob('/sys/class/virtio-ports/*'):
                if open(path + '/name').read().strip() == 'pandora.streams':
                    try: port = os.open('/dev/' + os.path.basename(path), os.O_RDWR)
                    except OSError: time.sleep(0.05)
        def write(data):
            while data: data = data[os.write(port, data):]
        def epoch():
            data = b''
            while True:
                data += os.read(port, 65536)
                at = data.find(b'PNDC')
                if at >= 0 and len(data) >= at + 12: return struct.unpack('<Q', data[at + 4:at + 12])[0]
        SERVE
        """;

    // The seconds are the timeout of each command.
    public static TheoryData<string, string, int> FalseAgents => new()
    {
        { "silence", "time.sleep(1000)", 4 },
        { "garbage without end", "while True: write(os.urandom(65536))", 10 },
        { "the first bytes of frames without end", "while True: write(b'PNDC' * 16384)", 10 },
        { "an agent that starts again and again", "f = frame(12) * 100\nwhile True: write(f)", 10 },
        {
            "bytes of streams that do not exist",
            "write(frame(12)); e = epoch(); f = frame(4, e, 1, 0, bytes(32000)) * 4\nwhile True: write(f)", 10
        },
        {
            "a welcome again and again",
            "write(frame(12)); e = epoch(); f = frame(2, e, 0, 0, struct.pack('<BQI', 1, 0, 0)) * 50\nwhile True: write(f)", 10
        },
    };

    [Theory]
    [MemberData(nameof(FalseAgents))]
    public async Task A_false_agent_harms_only_its_own_sandbox(string name, string serve, int seconds)
    {
        Assert.NotEmpty(name);
        await Hostile.ExecAsync(
            "cat > /root/false.py", new ExecOptions { Stdin = Program.Replace("SERVE", serve, StringComparison.Ordinal) });
        // PID 1 finds no agent to start again.
        await IgnoreAsync(() => Hostile.ExecAsync(
            "setsid python3 /root/false.py > /dev/null 2>&1 & sleep 1; rm /usr/lib/pandora/agent; pkill -9 -x agent; sleep 5",
            new ExecOptions { Timeout = TimeSpan.FromSeconds(8) }));
        var before = ResidentBytes();
        var asking = Task.WhenAll(Enumerable.Range(0, 3).Select(async _ =>
            Assert.NotNull(
                await IgnoreAsync(() => Hostile.ExecAsync("true", new ExecOptions { Timeout = TimeSpan.FromSeconds(seconds) })))));
        while (!asking.IsCompleted)
        {
            await MustServeAsync();
        }

        await asking;
        Assert.True(ResidentBytes() - before < 100 << 20, $"the server uses {(ResidentBytes() - before) >> 20} MiB more");
        await MustServeAsync();
    }

    [Fact]
    public async Task An_agent_that_is_killed_is_started_again_and_what_it_ran_is_unknown()
    {
        var killed = await Assert.ThrowsAsync<PandoraApiException>(() =>
            Hostile.ExecAsync("echo once >> /tmp/times; pkill -9 -x agent; sleep 20"));
        Assert.Equal("guest_unreachable", killed.Code);
        Assert.Contains("was not repeated", killed.Message);
        Assert.Equal("once\n", (await Hostile.ExecAsync("cat /tmp/times")).Stdout);
    }
}
