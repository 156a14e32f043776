using Pandora.Cli.Sessions;
using Pandora.Client;

namespace Pandora.Cli.Ports;

/// <summary>This program's standard input and output as the two directions of a connection.</summary>
internal static class StandardStreams
{
    private static readonly TimeSpan ReasonLimit = TimeSpan.FromSeconds(2);

    /// <summary>
    /// Copies both ways until both have ended: the end of the input ends the one direction, and the other's end closes the output. A
    /// terminal is not waited for: nobody types an end when the other side has gone.
    /// </summary>
    /// <exception cref="IOException">The connection broke, or this side cannot be read or written.</exception>
    public static async Task ConnectAsync(PortStream stream)
    {
        var (up, down) = (FeedAsync(stream), ShowAsync(stream));
        if (await Task.WhenAny(up, down) == up && up.IsFaulted)
        {
            // The reading side hears why a connection broke.
            await Task.WhenAny(down, Task.Delay(ReasonLimit, TimeProvider.System));
            await (down.IsFaulted ? down : up);
        }

        await down;
        Descriptors.EndOutput();
        await (RawTerminal.IsThere ? Task.CompletedTask : up);
    }

    private static async Task FeedAsync(PortStream stream)
    {
        await using var input = new StandardInput();
        await Pump.CopyAsync(input, stream, CancellationToken.None);
        await stream.EndWriteAsync();
    }

    private static async Task ShowAsync(PortStream stream)
    {
        var buffer = new byte[64 * 1024];
        while (await stream.ReadAsync(buffer) is > 0 and var length)
        {
            Descriptors.Write(1, buffer.AsSpan(0, length));
        }
    }
}
