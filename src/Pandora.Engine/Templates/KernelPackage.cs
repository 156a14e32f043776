using System.Buffers.Binary;
using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Text;
using Pandora.Linux;

namespace Pandora.Engine.Templates;

/// <summary>Reads the distribution's cloud kernel: the uncompressed image, and the modules that a microVM needs.</summary>
internal static class KernelPackage
{
    /// <summary>
    /// Modules that a microVM needs, unless they are built in: drives, network, overlay, entropy, and the agent's device on either VMM.
    /// </summary>
    private static readonly string[] Wanted =
    [
        "virtio_mmio",
        "virtio_blk",
        "virtio_net",
        "overlay",
        "virtio_rng",
        "virtio_console",
        "vmw_vsock_virtio_transport",
    ];

    /// <summary>Name of the package that always depends on the newest cloud kernel.</summary>
    public static string MetaPackage(string distribution) => (distribution, RuntimeInformation.ProcessArchitecture) switch
    {
        ("ubuntu", _) => "linux-image-virtual",
        (_, Architecture.Arm64) => "linux-image-cloud-arm64",
        _ => "linux-image-cloud-amd64",
    };

    /// <summary>
    /// Extracts the bootable kernel from a bzImage (kernel documentation, arch/x86/boot: payload_offset, payload_length). An image of
    /// another format is copied, and decompressed if it is compressed.
    /// </summary>
    public static async Task UncompressAsync(string image, string target, CancellationToken cancellationToken)
    {
        var bytes = await File.ReadAllBytesAsync(image, cancellationToken);
        var isBzImage = bytes.Length > 0x250 && bytes.AsSpan(0x202, 4).SequenceEqual("HdrS"u8);
        if (isBzImage && RuntimeInformation.ProcessArchitecture == Architecture.X64)
        {
            var setupSectors = bytes[0x1F1] == 0 ? 4 : bytes[0x1F1];
            var offset = ((setupSectors + 1) * 512) + BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(0x248));
            // The last four bytes are the uncompressed size, not part of the stream.
            bytes = bytes.AsSpan(offset, BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(0x24C)) - 4).ToArray();
        }

        await File.WriteAllBytesAsync(target, await UnpackAsync(bytes, target + ".packed", cancellationToken), cancellationToken);
    }

    /// <summary>Reads the modules that a microVM needs, and the modules that those depend on.</summary>
    /// <param name="moduleDirectory">The package's <c>lib/modules/VERSION</c>.</param>
    /// <param name="cancellationToken">Kills the tools.</param>
    /// <returns>Name and uncompressed content, in the order to load them: each after its dependencies.</returns>
    public static async Task<IReadOnlyList<(string Name, byte[] Content)>> LoadModulesAsync(
        string moduleDirectory, CancellationToken cancellationToken)
    {
        var files = Directory.GetFiles(moduleDirectory, "*.ko*", SearchOption.AllDirectories)
            .GroupBy(f => Normal(Path.GetFileName(f).Split(".ko")[0])).ToDictionary(g => g.Key, g => g.First());
        var ordered = new List<(string, byte[])>();
        var seen = new HashSet<string>();

        async Task VisitAsync(string name)
        {
            // A module that has no file is built in.
            if (!seen.Add(name) || !files.TryGetValue(name, out var file))
            {
                return;
            }

            var content = await UnpackAsync(
                await File.ReadAllBytesAsync(file, cancellationToken), Path.GetTempFileName(), cancellationToken);
            foreach (var dependency in ReadDependencies(content))
            {
                await VisitAsync(dependency);
            }

            ordered.Add(($"{name}.ko", content));
        }

        foreach (var name in Wanted)
        {
            await VisitAsync(name);
        }

        return ordered;
    }

    /// <summary>
    /// Reads the list <c>depends=</c> in a module's <c>.modinfo</c> section, a sequence of strings that end with NUL. The list
    /// <c>softdep=pre:</c> is not read.
    /// </summary>
    internal static IReadOnlyList<string> ReadDependencies(ReadOnlySpan<byte> module)
    {
        // The string is at the section's start or after the end of another string, so NUL precedes it in both cases.
        var start = module.IndexOf("\0depends="u8);
        if (start < 0)
        {
            return [];
        }

        var rest = module[(start + "\0depends=".Length)..];
        return
        [
            .. Encoding.ASCII.GetString(rest[..rest.IndexOf((byte)0)]).Split(',', StringSplitOptions.RemoveEmptyEntries).Select(Normal),
        ];
    }

    private static string Normal(string name) => name.Replace('-', '_');

    private static async Task<byte[]> UnpackAsync(byte[] bytes, string temporary, CancellationToken cancellationToken)
    {
        string? tool = bytes.AsSpan() switch
        {
            [0x1F, 0x8B, ..] => "gzip",
            [0x02, 0x21, 0x4C, 0x18, ..] or [0x04, 0x22, 0x4D, 0x18, ..] => "lz4",
            [0xFD, (byte)'7', (byte)'z', (byte)'X', ..] => "xz",
            [0x28, 0xB5, 0x2F, 0xFD, ..] => "zstd",
            _ => null,
        };
        if (tool is null)
        {
            File.Delete(temporary);
            return bytes;
        }

        var unpacked = temporary + ".out";
        try
        {
            if (tool == "gzip")
            {
                using var output = new MemoryStream();
                await using var gzip = new GZipStream(new MemoryStream(bytes), CompressionMode.Decompress);
                await gzip.CopyToAsync(output, cancellationToken);
                return output.ToArray();
            }

            await File.WriteAllBytesAsync(temporary, bytes, cancellationToken);
            await Command.RunAsync(
                "sh",
                ["-c", "exec \"$1\" -dc < \"$2\" > \"$3\"", "unpack", tool, temporary, unpacked],
                cancellationToken: cancellationToken);
            return await File.ReadAllBytesAsync(unpacked, cancellationToken);
        }
        finally
        {
            File.Delete(temporary);
            File.Delete(unpacked);
        }
    }
}
