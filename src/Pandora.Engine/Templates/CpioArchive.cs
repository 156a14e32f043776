using System.Text;

namespace Pandora.Engine.Templates;

/// <summary>
/// Writes archives in the format of an initrd: cpio "newc" (kernel documentation, driver-api/early-userspace/buffer-format).
/// </summary>
public sealed class CpioArchive(Stream output)
{
    private int _inode;

    /// <summary>Adds a directory owned by root.</summary>
    public void AddDirectory(string name, int mode = 0x1ED /* 0755 */) => Add(name, 0x4000 | mode, []);

    /// <summary>Adds a file owned by root.</summary>
    public void AddFile(string name, ReadOnlySpan<byte> content, int mode = 0x1A4 /* 0644 */) => Add(name, 0x8000 | mode, content);

    /// <summary>Ends the archive.</summary>
    public void Finish() => Add("TRAILER!!!", 0, []);

    private void Add(string name, int mode, ReadOnlySpan<byte> content)
    {
        var nameBytes = Encoding.UTF8.GetBytes(name + "\0");
        int[] fields = [++_inode, mode, 0, 0, 1, 0, content.Length, 0, 0, 0, 0, nameBytes.Length, 0];
        output.Write("070701"u8);
        foreach (var field in fields)
        {
            output.Write(Encoding.ASCII.GetBytes(field.ToString("x8")));
        }

        output.Write(nameBytes);
        Pad(110 + nameBytes.Length);
        output.Write(content);
        Pad(content.Length);
    }

    private void Pad(int length) => output.Write(stackalloc byte[(4 - (length % 4)) % 4]);
}
