using System.Diagnostics;
using Pandora.Linux;

namespace Pandora.Tests.Cli.Ssh;

/// <summary>OpenSSH's server on this host in a guest's place: one process for each connection, as in a guest.</summary>
internal sealed class SshServer : IAsyncDisposable
{
    // Where its unprivileged part is shut in.
    private const string Separation = "/run/sshd";
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-sshd").FullName;
    private readonly string _sshd;
    private readonly Func<IReadOnlyList<string>> _keys;
    private readonly List<Process> _processes = [];
    private bool _madeDirectory;

    private SshServer(string sshd, Func<IReadOnlyList<string>> keys) => (_sshd, _keys) = (sshd, keys);

    public string HostKey { get; private set; } = "";

    /// <summary>The program, where it is installed and can run.</summary>
    public static string? Find()
    {
        var canRun = Environment.IsPrivilegedProcess
            && File.ReadLines("/etc/passwd").Any(l => l.StartsWith("sshd:", StringComparison.Ordinal));
        return canRun
            ? Environment.GetEnvironmentVariable("PATH")!.Split(':').Append("/usr/sbin").Select(d => Path.Combine(d, "sshd"))
                .FirstOrDefault(File.Exists)
            : null;
    }

    public static async Task<SshServer> StartAsync(string sshd, Func<IReadOnlyList<string>> keys)
    {
        var server = new SshServer(sshd, keys);
        server._madeDirectory = !Directory.Exists(Separation);
        Directory.CreateDirectory(Separation);
        var file = Path.Combine(server._directory, "host_key");
        await Command.RunAsync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file]);
        server.HostKey = string.Join(' ', (await File.ReadAllTextAsync($"{file}.pub")).Split(' ')[..2]);
        return server;
    }

    public Stream Connect()
    {
        var keys = Path.Combine(_directory, "keys");
        File.WriteAllLines(keys, _keys());
        var process = Process.Start(new ProcessStartInfo(
            _sshd,
            [
                "-i", "-e", "-f", "/dev/null", "-h", Path.Combine(_directory, "host_key"), "-o", $"AuthorizedKeysFile={keys}",
                "-o", "StrictModes=no", "-o", "PidFile=none", "-o", "Subsystem=sftp internal-sftp",
            ])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        _processes.Add(process);
        return new Both(process.StandardOutput.BaseStream, process.StandardInput.BaseStream);
    }

    public ValueTask DisposeAsync()
    {
        foreach (var process in _processes)
        {
            process.Kill(entireProcessTree: true);
            process.Dispose();
        }

        Directory.Delete(_directory, recursive: true);
        if (_madeDirectory)
        {
            Directory.Delete(Separation);
        }

        return ValueTask.CompletedTask;
    }

    // Reads from one pipe and writes to another; its end closes what is written to.
    private sealed class Both(Stream output, Stream input) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            output.ReadAsync(buffer, cancellationToken);

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            await input.WriteAsync(buffer, cancellationToken);
            await input.FlushAsync(cancellationToken);
        }

        public override int Read(byte[] buffer, int offset, int count) => output.Read(buffer, offset, count);

        public override void Write(byte[] buffer, int offset, int count) => input.Write(buffer, offset, count);

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Close() => input.Close();
    }
}
