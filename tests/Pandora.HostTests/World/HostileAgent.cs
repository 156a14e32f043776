using System.Diagnostics;
using Pandora.TestHost;

namespace Pandora.HostTests.World;

/// <summary>Builds a template whose agent works until it is asked to resume. Its commands must run over
/// SSH. The root image is the default template's.</summary>
internal static class HostileAgent
{
    /// <summary>What the agent does when it is asked to resume, in Python.</summary>
    public const string Silence = "time.sleep(1000)",
        Flood = "while True: write(b'PNDA\\x01\\x02' + struct.pack('<II', 0, 16384) + bytes(16384))";

    private const string Program = """
        #!/usr/bin/python3
        import base64, glob, os, socket, struct, sys, time

        if sys.argv[1:] == ['--stdio']:
            # Commands, over SSH, by the real agent.
            with open('/run/agent', 'wb') as real:
                real.write(base64.b64decode('@AGENT@'))
            os.chmod('/run/agent', 0o700)
            os.execv('/run/agent', ['agent', '--stdio'])

        def serve(read, write):
            held = b''
            while True:
                while len(held) < 14 or len(held) < 14 + struct.unpack('<I', held[10:14])[0]:
                    more = read(4096)
                    if not more:
                        return
                    held += more
                size = 14 + struct.unpack('<I', held[10:14])[0]
                kind, number, body, held = held[5], held[6:10], held[14:size], held[size:]
                if kind == 3:
                    RESUME
                if kind == 5:
                    body = struct.pack('<q', time.time_ns())
                if kind == 7:
                    time.clock_settime(time.CLOCK_REALTIME, time.time() + struct.unpack('<q', body)[0] / 1e9)
                    body = b''
                write(b'PNDA\x01' + bytes([kind + 1]) + number + struct.pack('<I', len(body)) + body)

        for path in glob.glob('/sys/class/virtio-ports/*'):
            if open(path + '/name').read().strip() == 'pandora.agent':
                port = os.open('/dev/' + os.path.basename(path), os.O_RDWR)
                while True:
                    serve(lambda n: os.read(port, n), lambda b: os.write(port, b))
                    time.sleep(0.2)
        listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        listener.bind((socket.VMADDR_CID_ANY, 1000))
        listener.listen()
        while True:
            connection = listener.accept()[0]
            try:
                serve(connection.recv, connection.sendall)
            except OSError:
                # A restored guest's connections are reset.
                pass
            connection.close()

        """;

    /// <summary>Builds the template as the default one and returns its directory of templates.</summary>
    /// <param name="directory">A directory for the build.</param>
    /// <param name="resume">What the agent does when it is asked to resume: one of the constants.</param>
    public static async Task<string> BuildTemplateAsync(string directory, string resume)
    {
        var agent = Path.Combine(directory, "agent");
        var original = Path.Combine(Repository.Templates, "default");
        var real = Convert.ToBase64String(await File.ReadAllBytesAsync(Path.Combine(original, "agent")));
        await File.WriteAllTextAsync(
            agent,
            Program.Replace("RESUME", resume, StringComparison.Ordinal).Replace("@AGENT@", real, StringComparison.Ordinal));
        var start = new ProcessStartInfo(
            Path.Combine(Repository.Root, "artifacts/bin/Pandora.Server/release/pandora-server"),
            ["template", "build", "default", "--rootfs", Path.Combine(original, "rootfs.ext4"), .. Kernel(original)])
        {
            RedirectStandardError = true,
            Environment = { ["PANDORA_DATA_DIR"] = directory, ["PANDORA_AGENT"] = agent },
        };
        using var build = Process.Start(start)!;
        var words = await build.StandardError.ReadToEndAsync();
        await build.WaitForExitAsync();
        Assert.True(build.ExitCode == 0, words);
        return Path.Combine(directory, "templates");
    }

    // The kernel that the tests build, on hosts where only that kernel runs.
    private static string[] Kernel(string template) =>
        TestVmm.NeedsOwnKernel
            ?
            [
                "--kernel",
                Path.Combine(template, "vmlinux"),
                "--kernel-args",
                Environment.GetEnvironmentVariable("PANDORA_TEST_KERNEL_ARGS") ?? "",
            ]
            : [];
}
