using System.ComponentModel;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Pandora.Cli;

/// <summary>
/// Standard input and output as the kernel has them. .NET's console hides that an output is closed, and reads a terminal line by line.
/// </summary>
internal static partial class Descriptors
{
    private const int Interrupted = 4, BrokenPipe = 32, Output = 4;

    // On Linux and on macOS.
    private static readonly int WouldBlock = OperatingSystem.IsMacOS() ? 35 : 11;

    /// <summary>Writes all bytes.</summary>
    /// <exception cref="ClosedOutputException">Nothing reads the output any more.</exception>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void Write(int descriptor, ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            var written = WriteCore(descriptor, in MemoryMarshal.GetReference(bytes), bytes.Length);
            if (written >= 0)
            {
                bytes = bytes[(int)written..];
                continue;
            }

            Wait(descriptor, Output);
        }
    }

    /// <summary>Closes standard output for the program that reads it; what is written later is lost.</summary>
    public static void EndOutput()
    {
        // Where it is a socket, another descriptor may hold it open. Where it is none, this does nothing.
        _ = ShutdownCore(1, 1);
        using var nowhere = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.Write);
        foreach (var descriptor in CopiesOfOutput())
        {
            _ = DuplicateCore((int)nowhere.DangerousGetHandle(), descriptor);
        }
    }

    // .NET's console writes to a copy of its own, which keeps a pipe open as the first does. Input and errors may be the same file.
    private static List<int> CopiesOfOutput()
    {
        const string Directory = "/proc/self/fd";
        static string? FileOf(int descriptor) => new FileInfo($"{Directory}/{descriptor}").LinkTarget;
        var copies = new List<int> { 1 };
        if (System.IO.Directory.Exists(Directory) && FileOf(1) is { } output && output != FileOf(0) && output != FileOf(2))
        {
            copies.AddRange(System.IO.Directory.GetFiles(Directory)
                .Select(f => int.Parse(Path.GetFileName(f), CultureInfo.InvariantCulture)).Where(d => d > 2 && FileOf(d) == output));
        }

        return copies;
    }

    /// <summary>Reads what there is, and waits for at least one byte; 0 at the end.</summary>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static int Read(int descriptor, Span<byte> buffer)
    {
        while (true)
        {
            var length = ReadCore(descriptor, ref MemoryMarshal.GetReference(buffer), buffer.Length);
            if (length >= 0)
            {
                return (int)length;
            }

            Wait(descriptor, 1);
        }
    }

    // Another program may have set the descriptor, which both share, not to wait.
    private static void Wait(int descriptor, short events)
    {
        var error = Marshal.GetLastPInvokeError();
        if (error == WouldBlock)
        {
            var poll = new Poll { Descriptor = descriptor, Events = events };
            _ = PollCore(ref poll, 1, -1);
        }
        else if (error == BrokenPipe)
        {
            throw new ClosedOutputException();
        }
        else if (error != Interrupted)
        {
            throw new IOException($"{(events == Output ? "output" : "standard input")}: {new Win32Exception(error).Message}");
        }
    }

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    private static partial nint WriteCore(int descriptor, in byte bytes, nint length);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    private static partial nint ReadCore(int descriptor, ref byte bytes, nint length);

    [LibraryImport("libc", EntryPoint = "shutdown")]
    private static partial int ShutdownCore(int descriptor, int how);

    [LibraryImport("libc", EntryPoint = "dup2")]
    private static partial int DuplicateCore(int descriptor, int target);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static partial int PollCore(ref Poll poll, nint count, int timeout);

    [StructLayout(LayoutKind.Sequential)]
    private struct Poll
    {
        public int Descriptor;
        public short Events, Returned;
    }
}

/// <summary>Nothing reads this program's output any more, as with <c>| head</c>.</summary>
internal sealed class ClosedOutputException() : IOException("the output was closed")
{
    /// <summary>Exit code of a local program that SIGPIPE ends.</summary>
    public const int ExitCode = 128 + 13;
}

/// <summary>Standard input as bytes. A read cannot be cancelled: its thread ends with the program.</summary>
internal sealed class StandardInput : Stream
{
    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public override int Read(byte[] buffer, int offset, int count) => Descriptors.Read(0, buffer.AsSpan(offset, count));

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        new(Task.Run(() => Descriptors.Read(0, buffer.Span), cancellationToken).WaitAsync(cancellationToken));

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}

/// <summary>Standard output as bytes. A write cannot be cancelled: its thread ends with the program.</summary>
internal sealed class StandardOutput : Stream
{
    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public override void Write(byte[] buffer, int offset, int count) => Descriptors.Write(1, buffer.AsSpan(offset, count));

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        new(Task.Run(() => Descriptors.Write(1, buffer.Span), cancellationToken).WaitAsync(cancellationToken));

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();
}
