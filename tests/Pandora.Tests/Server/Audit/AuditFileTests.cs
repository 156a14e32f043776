using System.Text;
using Pandora.Server.Audit;

namespace Pandora.Tests.Audit;

public sealed class AuditFileTests : IDisposable
{
    private readonly string _data = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    private string Folder => AuditFile.DirectoryIn(_data);

    private string Newest => AuditFile.NewestIn(Folder);

    public void Dispose() => Directory.Delete(_data, recursive: true);

    [Fact]
    public void Nothing_is_opened_before_the_first_line_and_nobody_else_can_read_it()
    {
        using var file = new AuditFile(Folder, 1000, 8);
        Assert.False(Directory.Exists(Folder));
        Append(file, "one");
        Assert.Equal("one\n", File.ReadAllText(Newest));
        const UnixFileMode ReadWrite = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        Assert.Equal(ReadWrite, File.GetUnixFileMode(Newest));
        Assert.Equal(ReadWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(Folder));
    }

    [Fact]
    public void Wider_permissions_are_removed()
    {
        Directory.CreateDirectory(Folder);
        File.WriteAllText(Newest, "old\n");
        File.SetUnixFileMode(Newest, (UnixFileMode)0x1B6);
        File.SetUnixFileMode(Folder, (UnixFileMode)0x1FF);
        using var file = new AuditFile(Folder, 1000, 8);
        Append(file, "new");
        Assert.Equal((0x180, 0x1C0), ((int)File.GetUnixFileMode(Newest), (int)File.GetUnixFileMode(Folder)));
        Assert.Equal("old\nnew\n", File.ReadAllText(Newest));
    }

    [Fact]
    public void A_file_that_was_replaced_is_not_written_to()
    {
        using var file = new AuditFile(Folder, 1000, 8);
        Append(file, "one");
        File.Move(Newest, Newest + ".old");
        File.WriteAllText(Newest, "other\n");
        Append(file, "two");
        Assert.Equal(("one\n", "other\ntwo\n"), (File.ReadAllText(Newest + ".old"), File.ReadAllText(Newest)));
    }

    [Fact]
    public void Full_files_get_the_next_number_and_the_oldest_are_deleted()
    {
        using (var file = new AuditFile(Folder, 10, 3))
        {
            for (var i = 0; i < 10; i++)
            {
                Append(file, $"line{i}");
            }
        }

        // Each file has room for one of them.
        Assert.Equal(["audit-000008.jsonl", "audit-000009.jsonl", "audit.jsonl"], Names());
        Assert.Equal(["line7", "line8", "line9"], Lines());

        // The next server keeps fewer, and a line that is longer than a file has one for itself.
        using (var file = new AuditFile(Folder, 10, 2))
        {
            Append(file, new string('x', 100));
        }

        Assert.Equal(["audit-000010.jsonl", "audit.jsonl"], Names());
        Assert.Equal(["line9", new string('x', 100)], Lines());
    }

    [Fact]
    public void Other_files_in_the_directory_are_left_alone()
    {
        Directory.CreateDirectory(Folder);
        string[] others = ["audit-x.jsonl", "audit-0.jsonl", "audit-.jsonl", "audit-1.jsonl.gz", "audit--1.jsonl", "notes"];
        others.ToList().ForEach(o => File.WriteAllText(Path.Combine(Folder, o), "mine"));
        using var file = new AuditFile(Folder, 5, 2);
        for (var i = 0; i < 5; i++)
        {
            Append(file, "line");
        }

        Assert.All(others, o => Assert.Equal("mine", File.ReadAllText(Path.Combine(Folder, o))));
        Assert.Equal(["audit-000004.jsonl"], AuditFile.FullIn(Folder).Select(f => Path.GetFileName(f)));
    }

    [Fact]
    public void Half_a_line_of_a_killed_server_does_not_become_part_of_the_next()
    {
        Directory.CreateDirectory(Folder);
        File.WriteAllText(Newest, "whole\nhal");
        using var file = new AuditFile(Folder, 1000, 8);
        Append(file, "new");
        Assert.Equal("whole\nhal\nnew\n", File.ReadAllText(Newest));
    }

    [Fact]
    public void A_file_that_the_operator_empties_moves_or_deletes_is_written_anew()
    {
        using var file = new AuditFile(Folder, 1000, 8);
        Append(file, "one");
        File.WriteAllText(Newest, "");
        Append(file, "two");
        Assert.Equal("two\n", File.ReadAllText(Newest));
        File.Move(Newest, Path.Combine(Folder, "mine"));
        Append(file, "three");
        Assert.Equal("three\n", File.ReadAllText(Newest));
        Directory.Delete(Folder, recursive: true);
        Append(file, "four");
        Assert.Equal("four\n", File.ReadAllText(Newest));
    }

    [Fact]
    public void What_cannot_be_written_throws_and_works_again_afterwards()
    {
        Directory.CreateDirectory(Newest);
        using var file = new AuditFile(Folder, 1000, 8);
        Assert.ThrowsAny<UnauthorizedAccessException>(() => Append(file, "one"));
        Directory.Delete(Newest);
        Append(file, "two");
        Assert.Equal(["two"], Lines());
    }

    [Fact]
    public async Task Lines_of_many_threads_stay_whole()
    {
        const int Threads = 8, Each = 200;
        using (var file = new AuditFile(Folder, 4096, 1000))
        {
            await Task.WhenAll(Enumerable.Range(0, Threads).Select(t => Task.Run(() =>
            {
                for (var i = 0; i < Each; i++)
                {
                    Append(file, $"{t}:{i}:{new string((char)('a' + t), 20 + i)}");
                }
            })));
        }

        var lines = Lines();
        Assert.Equal(Threads * Each, lines.Count);
        Assert.All(Enumerable.Range(0, Threads), t => Assert.Equal(
            Enumerable.Range(0, Each).Select(i => $"{t}:{i}:{new string((char)('a' + t), 20 + i)}"),
            lines.Where(l => l.StartsWith($"{t}:", StringComparison.Ordinal))));
    }

    private static void Append(AuditFile file, string line) => file.Append(Encoding.UTF8.GetBytes(line + "\n"));

    private IEnumerable<string?> Names() => Directory.EnumerateFiles(Folder).Select(Path.GetFileName).Order(StringComparer.Ordinal);

    private List<string> Lines() => [.. AuditFile.FullIn(Folder).Append(Newest).SelectMany(File.ReadAllLines)];
}
