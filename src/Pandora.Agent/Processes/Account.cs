using System.Globalization;

namespace Pandora.Agent.Processes;

/// <summary>
/// A user of the guest, from <c>/etc/passwd</c> and <c>/etc/group</c>: a static program has none of the C library's other sources.
/// </summary>
/// <param name="Name">Its name; the number when it has none.</param>
/// <param name="User">User id.</param>
/// <param name="Group">Id of its group.</param>
/// <param name="Groups">Ids of all its groups.</param>
/// <param name="Home">Its home directory.</param>
/// <param name="Shell">Its login shell.</param>
internal sealed record Account(string Name, uint User, uint Group, uint[] Groups, string Home, string Shell)
{
    private const string DefaultShell = "/bin/sh";

    /// <summary>Finds a user by name or number. A number that no user has is a user without a name, in a group of that number.</summary>
    /// <param name="nameOrNumber">The name or the number.</param>
    /// <param name="directory">Where the files are.</param>
    /// <returns>Null when there is no user of that name.</returns>
    public static Account? Find(string nameOrNumber, string directory = "/etc")
    {
        var isNumber = uint.TryParse(nameOrNumber, NumberStyles.None, CultureInfo.InvariantCulture, out var number);
        foreach (var fields in Lines($"{directory}/passwd", 7))
        {
            if ((fields[0] == nameOrNumber || (isNumber && fields[2] == $"{number}")) && TryId(fields[2], out var user)
                && TryId(fields[3], out var group))
            {
                var shell = fields[6] is "" ? DefaultShell : fields[6];
                return new Account(fields[0], user, group, GroupsOf(fields[0], group, directory), fields[5], shell);
            }
        }

        if (isNumber)
        {
            return number == uint.MaxValue ? null : new Account($"{number}", number, number, [number], "/", DefaultShell);
        }

        // Without a file of users root exists all the same.
        return nameOrNumber == "root" ? new Account("root", 0, 0, [0], "/root", DefaultShell) : null;
    }

    /// <summary>Finds a group by name or number. A number that no group has is a group without a name.</summary>
    /// <returns>Null when there is no group of that name.</returns>
    public static uint? FindGroup(string nameOrNumber, string directory = "/etc")
    {
        foreach (var fields in Lines($"{directory}/group", 4))
        {
            if (fields[0] == nameOrNumber && TryId(fields[2], out var group))
            {
                return group;
            }
        }

        return TryId(nameOrNumber, out var number) ? number : nameOrNumber == "root" ? 0 : null;
    }

    /// <summary>The names of all users by their numbers; of those with one number the first.</summary>
    public static Dictionary<uint, string> UserNames(string directory = "/etc") => NamesIn($"{directory}/passwd", 7);

    /// <summary>The names of all groups by their numbers; of those with one number the first.</summary>
    public static Dictionary<uint, string> GroupNames(string directory = "/etc") => NamesIn($"{directory}/group", 4);

    private static Dictionary<uint, string> NamesIn(string path, int count)
    {
        var names = new Dictionary<uint, string>();
        foreach (var fields in Lines(path, count))
        {
            if (TryId(fields[2], out var id))
            {
                names.TryAdd(id, fields[0].Length <= 256 ? fields[0] : fields[0][..256]);
            }
        }

        return names;
    }

    private static uint[] GroupsOf(string name, uint group, string directory)
    {
        var groups = new List<uint> { group };
        foreach (var fields in Lines($"{directory}/group", 4))
        {
            if (fields[3].Split(',').Contains(name) && TryId(fields[2], out var id) && !groups.Contains(id))
            {
                groups.Add(id);
            }
        }

        return [.. groups];
    }

    private static bool TryId(string text, out uint id) =>
        uint.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out id) && id != uint.MaxValue;

    private static IEnumerable<string[]> Lines(string path, int count)
    {
        string[] lines;
        try
        {
            lines = File.ReadAllLines(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            yield break;
        }

        foreach (var line in lines)
        {
            if (line.Split(':') is var fields && fields.Length >= count)
            {
                yield return fields;
            }
        }
    }
}
