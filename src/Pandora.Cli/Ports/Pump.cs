using System.Buffers;

namespace Pandora.Cli.Ports;

/// <summary>Copies bytes as they come.</summary>
internal static class Pump
{
    private const int BufferSize = 64 * 1024;

    /// <summary>Copies until the source's end. While nothing comes it holds no buffer.</summary>
    public static async Task CopyAsync(Stream source, Stream target, CancellationToken cancellationToken)
    {
        while (true)
        {
            _ = await source.ReadAsync(Memory<byte>.Empty, cancellationToken);
            var buffer = ArrayPool<byte>.Shared.Rent(BufferSize);
            try
            {
                int length;
                // A full buffer is seldom the last one.
                do
                {
                    length = await source.ReadAsync(buffer.AsMemory(), cancellationToken);
                    if (length == 0)
                    {
                        return;
                    }

                    await target.WriteAsync(buffer.AsMemory(0, length), cancellationToken);
                }
                while (length == buffer.Length);
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
    }
}
