using System.Diagnostics;

namespace Pandora.Fakes;

/// <summary>The channel to an agent that runs as a program of its own, as over SSH. The program ends with the stream.</summary>
internal sealed class AgentProgram : Stream
{
    private readonly Process _process;

    /// <param name="path">The program.</param>
    public AgentProgram(string path) => _process = Process.Start(new ProcessStartInfo(path, ["--stdio"])
    {
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
    })!;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        _process.StandardOutput.BaseStream.ReadAsync(buffer, cancellationToken);

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        await _process.StandardInput.BaseStream.WriteAsync(buffer, cancellationToken);
        await _process.StandardInput.BaseStream.FlushAsync(cancellationToken);
    }

    public override void Flush() => _process.StandardInput.BaseStream.Flush();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            // Its end of the channel.
            _process.StandardInput.Dispose();
            _process.WaitForExit(TimeSpan.FromSeconds(10));
            _process.Dispose();
        }

        base.Dispose(disposing);
    }
}
